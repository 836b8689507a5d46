// RandomFilters: seeded rows with every kind of cell, and conditions over them, for comparing ways
// to evaluate a filter.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "query/filter.h"
#include "query/parser.h"
#include "query/schema.h"

namespace intarsia::query {

class RandomFilters {
 public:
  explicit RandomFilters(uint32_t seed)
      : schema_("docs", {{"lang", {BaseType::kVarchar, false}},
                         {"year", {BaseType::kInt, false}},
                         {"score", {BaseType::kDouble, false}},
                         {"open", {BaseType::kBoolean, false}},
                         {"at", {BaseType::kTimestamp, false}},
                         {"tags", {BaseType::kVarchar, true}},
                         {"years", {BaseType::kInt, true}}}),
        random_(seed) {}

  const CollectionSchema& schema() const { return schema_; }
  int Below(int end) { return static_cast<int>(random_() % static_cast<uint32_t>(end)); }

  // The cells of a row. Neighbours are often equal, as the chunks of a document are.
  Row NextRow() {
    if (last_.empty() || Below(3) == 0) {
      last_.assign(schema_.columns().size(), Value());
      const auto first = static_cast<size_t>(schema_.num_implicit());
      last_[first] = MaybeNull(Value(Word()));
      last_[first + 1] = MaybeNull(Value(Below(12) == 0 ? Extreme() : Below(9)));
      last_[first + 2] = MaybeNull(Value(Number()));
      last_[first + 3] = MaybeNull(Value(Below(2) == 0));
      last_[first + 4] = MaybeNull(Value(Timestamp{.micros = Below(5) * int64_t{86'400'000'000}}));
      Value::List tags;
      for (int i = Below(4); i > 0; --i) tags.push_back(Below(9) == 0 ? Value() : Value(Word()));
      last_[first + 5] = MaybeNull(Value(std::move(tags)));
      Value::List years;
      for (int i = Below(3); i > 0; --i) years.push_back(Value(Below(9)));
      last_[first + 6] = MaybeNull(Value(std::move(years)));
      last_[0] = Value(std::to_string(Below(50)));
    }
    last_[2] = Value(Below(4));
    last_[3] = Value(Word() + " " + Word());
    return last_;
  }

  // A condition as it is written, with up to `depth` connectives inside each other.
  std::string NextCondition(int depth) {
    if (depth > 0 && Below(3) != 0) {
      if (Below(4) == 0) return "NOT (" + NextCondition(depth - 1) + ")";
      std::string text = "(" + NextCondition(depth - 1);
      const std::string connective = Below(2) == 0 ? " AND " : " OR ";
      for (int i = 1 + Below(2); i > 0; --i) text += connective + NextCondition(depth - 1);
      return text + ")";
    }
    return NextTest();
  }

  Outcome<Filter> Bind(const std::string& condition) const {
    INTARSIA_ASSIGN_OR_FAIL(const Statement statement,
                            ParseStatement("DELETE FROM docs WHERE " + condition));
    return Filter::Bind(std::get<Delete>(statement).where, schema_);
  }

 private:
  Value MaybeNull(Value value) { return Below(6) == 0 ? Value() : std::move(value); }
  std::string Word() {
    static const std::vector<std::string> kWords = {"", "a", "ab", "abc", "b", "ä", "日本", "x_y"};
    return kWords[static_cast<size_t>(Below(static_cast<int>(kWords.size())))];
  }
  int64_t Extreme() {
    return Below(2) == 0 ? std::numeric_limits<int64_t>::max()
                         : std::numeric_limits<int64_t>::min();
  }
  double Number() {
    static const std::vector<double> kNumbers = {0.0,
                                                 -0.0,
                                                 1.0,
                                                 1.5,
                                                 -2.25,
                                                 1e300,
                                                 std::numeric_limits<double>::quiet_NaN(),
                                                 std::numeric_limits<double>::infinity(),
                                                 9223372036854775808.0};
    return kNumbers[static_cast<size_t>(Below(static_cast<int>(kNumbers.size())))];
  }
  std::string Operator() {
    static const std::vector<std::string> kOperators = {" = ",  " != ", " < ",
                                                        " <= ", " > ",  " >= "};
    return kOperators[static_cast<size_t>(Below(6))];
  }
  std::string Not() { return Below(2) == 0 ? "" : "NOT "; }
  std::string Quoted(const std::string& text) { return "'" + text + "'"; }
  std::string NumberText() {
    static const std::vector<std::string> kTexts = {
        "0",    "1",    "3", "-1", "1.5", "-2.25", "2.0", "1e300", "9223372036854775807",
        "1e19", "-1e19"};
    return kTexts[static_cast<size_t>(Below(static_cast<int>(kTexts.size())))];
  }

  std::string NextTest() {
    static const std::vector<std::string> kAll = {"lang", "year",    "score",  "open",    "at",
                                                  "tags", "content", "doc_id", "chunk_no"};
    switch (Below(12)) {
      case 0:
        return "lang" + Operator() + Quoted(Word());
      case 1:
        return (Below(2) == 0 ? "year" : "chunk_no") + Operator() + NumberText();
      case 2:
        return "score" + Operator() + NumberText();
      case 3:
        return "open" + std::string(Below(2) == 0 ? " = " : " != ") +
               (Below(2) == 0 ? "TRUE" : "FALSE");
      case 4:
        return "at" + Operator() + "'1970-01-0" + std::to_string(1 + Below(6)) + "'";
      case 5:
        return "lang " + Not() + "IN (" + Quoted(Word()) + ", " + Quoted(Word()) +
               (Below(4) == 0 ? ", NULL)" : ")");
      case 6:
        return (Below(2) == 0 ? "year " : "score ") + Not() + "IN (" + NumberText() + ", " +
               NumberText() + (Below(4) == 0 ? ", NULL)" : ")");
      case 7:
        return (Below(3) == 0 ? "content " : "lang ") + Not() + "LIKE " +
               Quoted(Below(2) == 0 ? Word() + "%" : "%" + Word() + "_%");
      case 8:
        return (Below(2) == 0   ? "tags "
                : Below(3) == 0 ? "content "
                                : "lang ") +
               Not() + "CONTAINS " + Quoted(Word());
      case 9:
        return "years " + Not() + "CONTAINS " + std::to_string(Below(9));
      case 10:
        return std::string(Below(2) == 0 ? "tags" : "lang") + " IS " + Not() + "EMPTY";
      default:
        return kAll[static_cast<size_t>(Below(static_cast<int>(kAll.size())))] + " IS " + Not() +
               "NULL";
    }
  }

  CollectionSchema schema_;
  std::mt19937 random_;
  Row last_;
};

}  // namespace intarsia::query
