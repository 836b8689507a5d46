#include "query/filter.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "base/utf8.h"
#include "query/filter_node.h"

namespace intarsia::query {
namespace {

// Matching takes the product of text and pattern at worst: a second for the largest chunk.
constexpr int64_t kLikeCharsMax = 1'000;

template <typename T>
Order Compare(const T& a, const T& b) {
  if (a < b) return Order::kLess;
  if (b < a) return Order::kGreater;
  return a == b ? Order::kEqual : Order::kUnordered;  // NaN is in no order.
}

// By value: a double holds not every 64-bit integer, so neither is converted to the other's type.
Order CompareMixed(int64_t integer, double number) {
  if (std::isnan(number)) return Order::kUnordered;
  if (number >= 9223372036854775808.0) return Order::kLess;
  if (number < -9223372036854775808.0) return Order::kGreater;
  const double whole = std::trunc(number);
  const Order order = Compare(integer, static_cast<int64_t>(whole));
  return order == Order::kEqual ? Compare(whole, number) : order;
}

Order Reverse(Order order) {
  if (order == Order::kLess) return Order::kGreater;
  return order == Order::kGreater ? Order::kLess : order;
}

Truth ToTruth(bool value) { return value ? Truth::kTrue : Truth::kFalse; }

Truth Holds(CompareOp op, Order order) {
  switch (op) {
    case CompareOp::kEqual:
      return ToTruth(order == Order::kEqual);
    case CompareOp::kNotEqual:
      return ToTruth(order != Order::kEqual);
    case CompareOp::kLess:
      return ToTruth(order == Order::kLess);
    case CompareOp::kLessEqual:
      return ToTruth(order == Order::kLess || order == Order::kEqual);
    case CompareOp::kGreater:
      return ToTruth(order == Order::kGreater);
    case CompareOp::kGreaterEqual:
      return ToTruth(order == Order::kGreater || order == Order::kEqual);
  }
  return Truth::kUnknown;
}

// Turns a tree into nodes. Depth is bounded by the parser.
struct Binder {
  const CollectionSchema& schema;
  std::vector<int64_t>* columns_used;

  const ColumnSpec& ColumnOf(const FilterNode& node) const { return schema.columns()[node.column]; }

  Outcome<FilterNode> Start(FilterNode::Kind kind, const Name& column) const {
    INTARSIA_ASSIGN_OR_FAIL(const int64_t index, schema.Find(column));
    columns_used->push_back(index);
    FilterNode node;
    node.kind = kind;
    node.column = static_cast<size_t>(index);
    return node;
  }

  Failure RefuseArray(const FilterNode& node, SourceRange range, std::string_view operation) const {
    const ColumnSpec& column = ColumnOf(node);
    if (!column.type.is_array) return {};
    return BinderError(range,
                       "column \"" + column.name + "\" is " + ColumnTypeName(column.type) + ": " +
                           std::string(operation) + " takes no list",
                       "Use CONTAINS to ask for a member.");
  }

  // A number for a number, else what BindLiteral allows.
  Outcome<Value> BindOperand(const Literal& literal, const ColumnSpec& column) const {
    ColumnType type = column.type;
    type.is_array = false;
    const bool is_number = type.base == BaseType::kInt || type.base == BaseType::kDouble;
    if (is_number && !literal.is_word &&
        (literal.value.kind() == ValueKind::kInteger ||
         literal.value.kind() == ValueKind::kDouble)) {
      return literal.value;
    }
    return BindLiteral(literal, type, column.name);
  }

  Outcome<FilterNode> operator()(const Comparison& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kCompare, test.column));
    INTARSIA_FAIL_IF(RefuseArray(node, test.column.range, "a comparison"));
    const ColumnSpec& column = ColumnOf(node);
    node.op = test.op;
    if (test.value.value.is_null()) {
      return BinderError(test.value.range, "a comparison with NULL is never true",
                         test.op == CompareOp::kNotEqual ? "Use IS NOT NULL." : "Use IS NULL.");
    }
    const bool is_order = test.op != CompareOp::kEqual && test.op != CompareOp::kNotEqual;
    if (is_order && column.type.base == BaseType::kBoolean) {
      return BinderError(test.op_range,
                         "column \"" + column.name + "\" is BOOLEAN, which has no order",
                         "Use = or !=.");
    }
    INTARSIA_ASSIGN_OR_FAIL(Value value, BindOperand(test.value, column));
    node.values.push_back(std::move(value));
    return node;
  }

  Outcome<FilterNode> operator()(const InList& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kIn, test.column));
    INTARSIA_FAIL_IF(RefuseArray(node, test.column.range, "IN"));
    node.is_negated = test.is_negated;
    for (const Literal& literal : test.values) {
      INTARSIA_ASSIGN_OR_FAIL(Value value, BindOperand(literal, ColumnOf(node)));
      node.values.push_back(std::move(value));
    }
    return node;
  }

  Outcome<FilterNode> operator()(const LikePattern& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kLike, test.column));
    INTARSIA_FAIL_IF(RefuseArray(node, test.column.range, "LIKE"));
    const ColumnSpec& column = ColumnOf(node);
    if (column.type.base != BaseType::kVarchar) {
      return BinderError(test.column.range, "LIKE needs a VARCHAR column, \"" + column.name +
                                                "\" is " + ColumnTypeName(column.type));
    }
    if (test.pattern.is_word || test.pattern.value.kind() != ValueKind::kString) {
      return BinderError(test.pattern.range, "LIKE needs a pattern in single quotes");
    }
    if (CountCodePoints(test.pattern.value.AsString()) > kLikeCharsMax) {
      return BinderError(test.pattern.range, "a pattern of LIKE has at most " +
                                                 std::to_string(kLikeCharsMax) + " characters");
    }
    node.is_negated = test.is_negated;
    node.values.push_back(test.pattern.value);
    return node;
  }

  Outcome<FilterNode> operator()(const Containment& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kContains, test.column));
    const ColumnSpec& column = ColumnOf(node);
    if (!column.type.is_array && column.type.base != BaseType::kVarchar) {
      return BinderError(test.column.range, "CONTAINS needs an array or VARCHAR column, \"" +
                                                column.name + "\" is " +
                                                ColumnTypeName(column.type));
    }
    if (test.value.value.is_null()) {
      return BinderError(test.value.range, "CONTAINS NULL is never true");
    }
    node.is_negated = test.is_negated;
    INTARSIA_ASSIGN_OR_FAIL(Value value, BindOperand(test.value, column));
    node.values.push_back(std::move(value));
    return node;
  }

  Outcome<FilterNode> operator()(const NullTest& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kIsNull, test.column));
    node.is_negated = test.is_negated;
    return node;
  }

  Outcome<FilterNode> operator()(const EmptyTest& test) const {
    INTARSIA_ASSIGN_OR_FAIL(FilterNode node, Start(FilterNode::Kind::kIsEmpty, test.column));
    const ColumnSpec& column = ColumnOf(node);
    if (!column.type.is_array && column.type.base != BaseType::kVarchar) {
      return BinderError(test.column.range,
                         "IS EMPTY needs an array or VARCHAR column, \"" + column.name + "\" is " +
                             ColumnTypeName(column.type),
                         "Use IS NULL.");
    }
    node.is_negated = test.is_negated;
    return node;
  }

  Outcome<FilterNode> operator()(const Junction& junction) const {
    FilterNode node;
    node.kind =
        junction.connective == Connective::kAnd ? FilterNode::Kind::kAnd : FilterNode::Kind::kOr;
    for (const Predicate& term : junction.terms) {
      INTARSIA_ASSIGN_OR_FAIL(FilterNode child, std::visit(*this, term.node));
      node.children.push_back(std::move(child));
    }
    return node;
  }

  Outcome<FilterNode> operator()(const Negation& negation) const {
    FilterNode node;
    node.kind = FilterNode::Kind::kNot;
    INTARSIA_ASSIGN_OR_FAIL(FilterNode child, std::visit(*this, negation.term.front().node));
    node.children.push_back(std::move(child));
    return node;
  }
};

Truth EvaluateIn(const Value& cell, const std::vector<Value>& values) {
  bool has_null = false;
  for (const Value& value : values) {
    if (value.is_null()) {
      has_null = true;
    } else if (CompareValues(cell, value) == Order::kEqual) {
      return Truth::kTrue;
    }
  }
  return has_null ? Truth::kUnknown : Truth::kFalse;
}

Truth EvaluateContains(const Value& cell, const Value& wanted) {
  if (cell.kind() == ValueKind::kString) {
    return ToTruth(cell.AsString().find(wanted.AsString()) != std::string::npos);
  }
  if (cell.kind() != ValueKind::kList) return Truth::kUnknown;
  return ToTruth(std::any_of(
      cell.AsList().begin(), cell.AsList().end(),
      [&wanted](const Value& member) { return CompareValues(member, wanted) == Order::kEqual; }));
}

Truth EvaluateEmpty(const Value& cell) {
  if (cell.kind() == ValueKind::kString) return ToTruth(cell.AsString().empty());
  if (cell.kind() == ValueKind::kList) return ToTruth(cell.AsList().empty());
  return Truth::kUnknown;
}

Truth EvaluateNode(const FilterNode& node, std::span<const Value> row) {
  if (node.kind == FilterNode::Kind::kNot) return Negate(EvaluateNode(node.children.front(), row));
  if (node.kind != FilterNode::Kind::kAnd && node.kind != FilterNode::Kind::kOr) {
    return EvaluateTest(node, row[node.column]);
  }
  const Truth decisive = node.kind == FilterNode::Kind::kAnd ? Truth::kFalse : Truth::kTrue;
  bool is_unknown = false;
  for (const FilterNode& child : node.children) {
    const Truth truth = EvaluateNode(child, row);
    if (truth == decisive) return decisive;
    is_unknown = is_unknown || truth == Truth::kUnknown;
  }
  return is_unknown ? Truth::kUnknown : Negate(decisive);
}

}  // namespace

Order CompareValues(const Value& a, const Value& b) {
  if (a.kind() == ValueKind::kInteger && b.kind() == ValueKind::kDouble) {
    return CompareMixed(a.AsInteger(), b.AsDouble());
  }
  if (a.kind() == ValueKind::kDouble && b.kind() == ValueKind::kInteger) {
    return Reverse(CompareMixed(b.AsInteger(), a.AsDouble()));
  }
  if (a.kind() != b.kind()) return Order::kUnordered;
  switch (a.kind()) {
    case ValueKind::kBoolean:
      return Compare(a.AsBoolean(), b.AsBoolean());
    case ValueKind::kInteger:
      return Compare(a.AsInteger(), b.AsInteger());
    case ValueKind::kDouble:
      return Compare(a.AsDouble(), b.AsDouble());
    case ValueKind::kTimestamp:
      return Compare(a.AsTimestamp(), b.AsTimestamp());
    case ValueKind::kString:
      return Compare(a.AsString(), b.AsString());
    default:
      return Order::kUnordered;
  }
}

Truth Negate(Truth truth) {
  if (truth == Truth::kUnknown) return truth;
  return ToTruth(truth == Truth::kFalse);
}

Truth EvaluateTest(const FilterNode& node, const Value& cell) {
  Truth truth = Truth::kUnknown;
  if (node.kind == FilterNode::Kind::kIsNull) {
    truth = ToTruth(cell.is_null());
  } else if (cell.is_null()) {
    return Truth::kUnknown;
  } else if (node.kind == FilterNode::Kind::kCompare) {
    truth = Holds(node.op, CompareValues(cell, node.values.front()));
  } else if (node.kind == FilterNode::Kind::kIn) {
    truth = EvaluateIn(cell, node.values);
  } else if (node.kind == FilterNode::Kind::kLike) {
    truth = ToTruth(cell.kind() == ValueKind::kString &&
                    MatchesLike(cell.AsString(), node.values.front().AsString()));
  } else if (node.kind == FilterNode::Kind::kContains) {
    truth = EvaluateContains(cell, node.values.front());
  } else {
    truth = EvaluateEmpty(cell);
  }
  return node.is_negated ? Negate(truth) : truth;
}

Filter::Filter(std::unique_ptr<FilterNode> root, std::vector<int64_t> columns_used)
    : root_(std::move(root)), columns_used_(std::move(columns_used)) {}
Filter::Filter(Filter&&) noexcept = default;
Filter& Filter::operator=(Filter&&) noexcept = default;
Filter::~Filter() = default;

Outcome<Filter> Filter::Bind(const Predicate& predicate, const CollectionSchema& schema) {
  std::vector<int64_t> columns_used;
  const Binder binder{schema, &columns_used};
  INTARSIA_ASSIGN_OR_FAIL(FilterNode root, std::visit(binder, predicate.node));
  std::sort(columns_used.begin(), columns_used.end());
  columns_used.erase(std::unique(columns_used.begin(), columns_used.end()), columns_used.end());
  return Filter(std::make_unique<FilterNode>(std::move(root)), std::move(columns_used));
}

Truth Filter::Evaluate(std::span<const Value> row) const { return EvaluateNode(*root_, row); }

bool MatchesLike(std::string_view text, std::string_view pattern) {
  const auto text_size = static_cast<int64_t>(text.size());
  const auto pattern_size = static_cast<int64_t>(pattern.size());
  int64_t t = 0;
  int64_t p = 0;
  // Where to go on if what follows the last % does not fit: one code point later each time.
  int64_t retry_t = -1;
  int64_t retry_p = -1;
  while (t < text_size) {
    const CodePoint c = DecodeCodePoint(text, t);
    if (p < pattern_size) {
      const CodePoint wanted = DecodeCodePoint(pattern, p);
      if (wanted.value == U'%') {
        retry_t = t;
        retry_p = ++p;
        continue;
      }
      if (wanted.value == U'_' || wanted.value == c.value) {
        t += c.num_bytes;
        p += wanted.num_bytes;
        continue;
      }
    }
    if (retry_p < 0) return false;
    retry_t += DecodeCodePoint(text, retry_t).num_bytes;
    t = retry_t;
    p = retry_p;
  }
  while (p < pattern_size && pattern[static_cast<size_t>(p)] == '%') ++p;
  return p == pattern_size;
}

}  // namespace intarsia::query
