// OptionSpec, BoundOptions: the options of statements, declared once.
//
// The tables say name, type, default, range and help of each option. WITH clauses are checked
// against them, errors name what is allowed from them, and help is printed from them.
//
// Thread safety: immutable tables and plain values; concurrent const calls only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/value.h"

namespace intarsia::query {

enum class OptionType : uint8_t {
  kBoolean,  // true, false, on, off
  kInteger,
  kDouble,
  kText,      // A string, or a single word without quotes.
  kName,      // A model or column: a word or a string.
  kChoice,    // One of OptionSpec::choices: a word or a string.
  kBytes,     // An integer, or a string with a unit: '512MB', '2GiB'.
  kDuration,  // Seconds as an integer, or a string with a unit: '90s', '12h', '7d'.
};

struct OptionSpec {
  std::string_view name;
  OptionType type = OptionType::kText;
  std::string_view default_text;  // As in SQL without quotes; empty: not set.
  std::string_view help;          // One line.
  double minimum = 0;             // Of numbers, inclusive.
  double maximum = 0;             // Of numbers, inclusive.
  std::span<const std::string_view> choices = {};
  std::string_view synonym = {};  // A second name, or empty.
};

// What values an option takes, for errors and help: "an integer from 1 to 256",
// "'refuse' or 'answer'".
std::string DescribeValues(const OptionSpec& spec);

enum class OptionTable : uint8_t {
  kCreateModel,
  kCreateCollection,
  kAlterCollection,
  kCopy,
  kSearch,
  kAnswer,
  kBackup,
  kDelete,  // Of DROP COLLECTION, too.
  kSettings,
};

std::span<const OptionSpec> OptionsOf(OptionTable table);

// The option of that name or synonym; case does not matter.
// Errors: kBinder with the nearest name as hint.
Outcome<const OptionSpec*> FindOption(OptionTable table, const Name& name);

// The values of all options of a table: those given, and the defaults of the others.
class BoundOptions {
 public:
  explicit BoundOptions(OptionTable table);

  // REQUIRES of all: the table has an option `name` of that type; get-functions: is_set(name).
  bool GetBoolean(std::string_view name) const;
  int64_t GetInteger(std::string_view name) const;  // kInteger, kBytes, kDuration.
  double GetDouble(std::string_view name) const;
  const std::string& GetText(std::string_view name) const;  // kText, kName, kChoice.

  // Whether it has a value, given or by default.
  bool is_set(std::string_view name) const;
  // Whether the statement gave it.
  bool is_given(std::string_view name) const;

  const Value& Get(std::string_view name) const;
  void Set(std::string_view name, Value value);
  // Where the statement gives the value, for errors about it; no place if it does not.
  SourceRange RangeOf(std::string_view name) const;
  void SetRange(std::string_view name, SourceRange range);

 private:
  int64_t IndexOf(std::string_view name) const;

  OptionTable table_;
  std::vector<Value> values_;  // [OptionsOf(table_).size()], null: not set.
  std::vector<uint8_t> is_given_;
  std::vector<SourceRange> ranges_;
};

// Checks one value.
// Errors: kBinder that says which values are allowed.
Outcome<Value> BindOptionValue(const OptionSpec& spec, const Literal& value);

// Checks a WITH clause. For kAnswer a preset decides the ratio and the selector unless they
// are given too.
// Errors: kBinder for an unknown option (with the nearest), a repeated one, a bad value.
Outcome<BoundOptions> BindOptions(OptionTable table, const std::vector<Option>& options);

// option, values, default, help; one row for each option, in the order of the table.
ResultSet DescribeOptions(OptionTable table);

}  // namespace intarsia::query
