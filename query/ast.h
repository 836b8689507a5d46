// Statement: a statement as a tree, one struct for each kind.
//
// The tree says what was written and nothing more: names are not looked up, options and literals
// not checked against types. Every part that an error may point at has its range in the text.
// ToSql (ast_printer.h) writes a tree back; parsing that text gives an equal tree.
//
// Thread safety: plain values; concurrent const calls only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "query/diagnostic.h"
#include "query/value.h"

namespace intarsia::query {

// An identifier without its quotes. The name of a setting keeps its dots: search.ef.
struct Name {
  std::string text;
  SourceRange range;
  bool operator==(const Name&) const = default;
};

// A string literal, decoded.
struct Text {
  std::string text;
  SourceRange range;
  bool operator==(const Text&) const = default;
};

// A constant: null, boolean, integer, double, string, timestamp, or a list of these. A bare word,
// as in `embedding = e5`, is a string with `is_word`.
struct Literal {
  Value value;
  bool is_word = false;
  SourceRange range;
  bool operator==(const Literal&) const = default;
};

// `name = value` in WITH or METADATA.
struct Option {
  Name name;
  Literal value;
  bool operator==(const Option&) const = default;
};

enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual };

struct Comparison {
  Name column;
  CompareOp op = CompareOp::kEqual;
  Literal value;
  SourceRange op_range;
  bool operator==(const Comparison&) const = default;
};

struct InList {
  Name column;
  bool is_negated = false;
  std::vector<Literal> values;  // Not empty.
  bool operator==(const InList&) const = default;
};

// LIKE with % and _, both counted in code points; no escape character.
struct LikePattern {
  Name column;
  bool is_negated = false;
  Literal pattern;
  bool operator==(const LikePattern&) const = default;
};

// A member of an array column, or a part of a text column.
struct Containment {
  Name column;
  bool is_negated = false;
  Literal value;
  bool operator==(const Containment&) const = default;
};

struct NullTest {
  Name column;
  bool is_negated = false;
  bool operator==(const NullTest&) const = default;
};

// An array without members, or a text of zero bytes.
struct EmptyTest {
  Name column;
  bool is_negated = false;
  bool operator==(const EmptyTest&) const = default;
};

struct Predicate;

enum class Connective : uint8_t { kAnd, kOr };

struct Junction {
  Connective connective = Connective::kAnd;
  std::vector<Predicate> terms;  // Two or more.
  bool operator==(const Junction& other) const;
};

struct Negation {
  std::vector<Predicate> term;  // Exactly one.
  bool operator==(const Negation& other) const;
};

struct Predicate {
  std::variant<Comparison, InList, LikePattern, Containment, NullTest, EmptyTest, Junction,
               Negation>
      node;
  bool operator==(const Predicate&) const = default;
};

inline bool Junction::operator==(const Junction& other) const {
  return connective == other.connective && terms == other.terms;
}
inline bool Negation::operator==(const Negation& other) const { return term == other.term; }

enum class ModelType : uint8_t { kUnspecified, kGenerate, kEmbedding, kRerank };

struct CreateModel {
  Name name;
  bool if_not_exists = false;
  ModelType type = ModelType::kUnspecified;  // Unspecified: the file says.
  Text path;
  std::vector<Option> options;
  bool operator==(const CreateModel&) const = default;
};

struct DropModel {
  Name name;
  bool if_exists = false;
  bool operator==(const DropModel&) const = default;
};

struct ShowModels {
  bool operator==(const ShowModels&) const = default;
};

struct SetDefaultModel {
  ModelType type = ModelType::kGenerate;
  Name name;
  bool operator==(const SetDefaultModel&) const = default;
};

struct ColumnDefinition {
  Name name;
  ColumnType type;
  bool operator==(const ColumnDefinition&) const = default;
};

struct CreateCollection {
  Name name;
  bool if_not_exists = false;
  std::vector<ColumnDefinition> columns;
  std::vector<Option> options;
  bool operator==(const CreateCollection&) const = default;
};

struct AlterCollection {
  Name name;
  std::vector<Option> options;  // Not empty.
  bool operator==(const AlterCollection&) const = default;
};

struct DropCollection {
  Name name;
  bool if_exists = false;
  std::vector<Option> options;
  bool operator==(const DropCollection&) const = default;
};

struct ShowCollections {
  bool operator==(const ShowCollections&) const = default;
};

struct Describe {
  Name collection;
  bool operator==(const Describe&) const = default;
};

struct Copy {
  Name collection;
  std::vector<Text> sources;     // Paths and glob patterns; not empty.
  std::vector<Option> metadata;  // Column values for every document of this statement.
  std::vector<Option> options;
  bool operator==(const Copy&) const = default;
};

struct Insert {
  Name collection;
  std::vector<Name> columns;               // Not empty.
  std::vector<std::vector<Literal>> rows;  // Each [columns.size()]; not empty.
  bool operator==(const Insert&) const = default;
};

struct Search {
  Text text;
  Name collection;
  std::optional<Predicate> where;
  std::optional<int64_t> limit;
  std::vector<Option> options;
  bool operator==(const Search&) const = default;
};

struct Answer {
  Text question;
  Name collection;
  std::optional<Predicate> where;
  std::optional<Name> model;
  std::vector<Option> options;
  bool operator==(const Answer&) const = default;
};

struct CacheCollection {
  Name collection;
  std::optional<Predicate> where;
  std::optional<Name> model;
  bool operator==(const CacheCollection&) const = default;
};

struct ShowIndexes {
  std::optional<Name> collection;
  bool operator==(const ShowIndexes&) const = default;
};

struct ShowCache {
  std::optional<Name> collection;
  bool operator==(const ShowCache&) const = default;
};

enum class CacheKind : uint8_t { kAll, kKv };

struct ClearCache {
  CacheKind kind = CacheKind::kAll;
  std::optional<Name> collection;
  bool operator==(const ClearCache&) const = default;
};

struct CheckModel {
  Name name;
  bool operator==(const CheckModel&) const = default;
};

enum class CacheTier : uint8_t { kMemory, kDisk };

struct PinCache {
  Name collection;
  std::optional<Predicate> where;
  CacheTier tier = CacheTier::kMemory;  // And all tiers below it.
  bool operator==(const PinCache&) const = default;
};

struct UnpinCache {
  Name collection;
  std::optional<Predicate> where;
  bool operator==(const UnpinCache&) const = default;
};

// Of the whole database, or named after one of its collections.
struct Compact {
  std::optional<Name> collection;
  bool operator==(const Compact&) const = default;
};

struct CheckDatabase {
  bool operator==(const CheckDatabase&) const = default;
};

struct RepairDatabase {
  bool operator==(const RepairDatabase&) const = default;
};

struct BackupDatabase {
  Text target;
  std::vector<Option> options;
  bool operator==(const BackupDatabase&) const = default;
};

struct CheckBackup {
  Text backup;
  bool operator==(const CheckBackup&) const = default;
};

struct RestoreDatabase {
  Text backup;
  Text target;
  bool operator==(const RestoreDatabase&) const = default;
};

struct SetSetting {
  Name name;
  Literal value;
  bool operator==(const SetSetting&) const = default;
};

struct ShowSettings {
  std::optional<Text> like;
  bool operator==(const ShowSettings&) const = default;
};

struct Delete {
  Name collection;
  Predicate where;
  std::vector<Option> options;
  bool operator==(const Delete&) const = default;
};

// `name => value` in the parentheses of a clause.
using Argument = Option;

// One way to look for chunks, as a clause of SELECT: MATCH TEXT (content, 'text', topn => 100), or
// MATCH VECTOR (embedding, EMBED('text'), topn => 100).
struct MatchClause {
  enum class Kind : uint8_t { kText, kVector };
  Kind kind = Kind::kText;
  Text text;
  std::vector<Argument> arguments;
  SourceRange range;  // Of TEXT or VECTOR.
  bool operator==(const MatchClause&) const = default;
};

// FUSION rrf (k => 60, weights => [1, 1]).
struct FusionClause {
  Name method;
  std::vector<Argument> arguments;
  bool operator==(const FusionClause&) const = default;
};

// SEARCH MATCH ..., MATCH ..., FUSION ...
struct SearchClause {
  std::vector<MatchClause> matches;  // Not empty.
  std::optional<FusionClause> fusion;
  bool operator==(const SearchClause&) const = default;
};

// RERANK ['text' ON content] USING model [TOP n].
struct RerankClause {
  std::optional<Text> text;
  Name model;
  std::optional<int64_t> top;
  bool operator==(const RerankClause&) const = default;
};

struct SelectItem {
  // A function is SCORE(), TEXT_SCORE(), VECTOR_SCORE(), RERANK_SCORE() or SNIPPET(content).
  enum class Kind : uint8_t { kStar, kCount, kColumn, kFunction };
  Kind kind = Kind::kColumn;
  // Of kColumn; of kFunction its name in upper case; of kCount its place only.
  Name column;
  bool operator==(const SelectItem&) const = default;
};

struct OrderTerm {
  Name column;
  bool is_descending = false;
  bool operator==(const OrderTerm&) const = default;
};

struct Select {
  std::vector<SelectItem> items;  // Not empty.
  Name collection;
  std::optional<SearchClause> search;
  std::optional<Predicate> where;
  std::optional<RerankClause> rerank;  // Only with `search`.
  std::vector<OrderTerm> order_by;
  std::optional<int64_t> limit;
  std::optional<int64_t> offset;
  bool operator==(const Select&) const = default;
};

struct Explain {
  bool is_analyze = false;
  std::variant<Search, Answer, Select> statement;
  bool operator==(const Explain&) const = default;
};

using Statement =
    std::variant<CreateModel, DropModel, ShowModels, SetDefaultModel, CreateCollection,
                 AlterCollection, DropCollection, ShowCollections, Describe, Copy, Insert, Search,
                 Answer, Explain, CacheCollection, ShowIndexes, ShowCache, ClearCache, PinCache,
                 UnpinCache, Compact, CheckModel, CheckDatabase, RepairDatabase, BackupDatabase,
                 CheckBackup, RestoreDatabase, SetSetting, ShowSettings, Delete, Select>;

}  // namespace intarsia::query
