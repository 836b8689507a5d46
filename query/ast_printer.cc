#include "query/ast_printer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "query/lexer.h"

namespace intarsia::query {
namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

bool IsPlainWord(std::string_view name) {
  Lexer lexer(name);
  const Token token = lexer.Next();
  return token.kind == TokenKind::kWord && token.range.begin == 0 &&
         token.range.end == static_cast<int64_t>(name.size());
}

// As QuoteName, where a keyword cannot be mistaken.
std::string OptionName(std::string_view name) {
  return IsPlainWord(name) ? std::string(name) : QuoteName(name);
}

std::string_view OperatorText(CompareOp op) {
  static constexpr std::array<std::string_view, 6> kTexts = {"=", "!=", "<", "<=", ">", ">="};
  return kTexts[static_cast<size_t>(op)];
}

std::string_view Not(bool is_negated) { return is_negated ? "NOT " : ""; }

std::string ValueToSql(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kNull:
      return "NULL";
    case ValueKind::kBoolean:
      return value.AsBoolean() ? "TRUE" : "FALSE";
    case ValueKind::kTimestamp:
      return "TIMESTAMP " + QuoteText(FormatTimestamp(value.AsTimestamp()));
    case ValueKind::kString:
      return QuoteText(value.AsString());
    case ValueKind::kList: {
      std::string text = "[";
      for (const Value& member : value.AsList()) {
        if (text.size() > 1) text += ", ";
        text += ValueToSql(member);
      }
      return text + "]";
    }
    default:
      return ToText(value, "NULL");
  }
}

// `items` joined by ", ", each as `print` writes it.
template <typename T, typename Print>
std::string Join(const std::vector<T>& items, Print print) {
  std::string joined;
  for (const T& item : items) {
    if (!joined.empty()) joined += ", ";
    joined += print(item);
  }
  return joined;
}

std::string Options(std::string_view keyword, const std::vector<Option>& options) {
  if (options.empty()) return {};
  return " " + std::string(keyword) + " (" +
         Join(options,
              [](const Option& option) {
                return OptionName(option.name.text) + " = " + ToSql(option.value);
              }) +
         ")";
}

std::string Where(const std::optional<Predicate>& where) {
  return where ? " WHERE " + ToSql(*where) : "";
}

std::string NameClause(std::string_view keyword, const std::optional<Name>& name) {
  return name ? " " + std::string(keyword) + " " + QuoteName(name->text) : "";
}

std::string Count(std::string_view keyword, const std::optional<int64_t>& count) {
  return count ? " " + std::string(keyword) + " " + std::to_string(*count) : "";
}

std::string_view ModelTypeText(ModelType type) {
  if (type == ModelType::kRerank) return "RERANK";
  return type == ModelType::kEmbedding ? "EMBEDDING" : "GENERATE";
}

// A name with dots, in quotes as a whole if one of its parts needs them.
std::string DottedName(std::string_view name) {
  for (std::string_view rest = name;;) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool is_first = rest.size() == name.size();
    if (!IsPlainWord(part) || (is_first && IsReserved(part))) return QuoteName(name);
    if (dot == std::string_view::npos) return std::string(name);
    rest.remove_prefix(dot + 1);
  }
}

std::string Print(const CreateModel& s) {
  return "CREATE MODEL " + std::string(s.if_not_exists ? "IF NOT EXISTS " : "") +
         QuoteName(s.name.text) +
         (s.type == ModelType::kUnspecified ? "" : " TYPE " + std::string(ModelTypeText(s.type))) +
         " FROM " + QuoteText(s.path.text) + Options("WITH", s.options);
}

std::string Print(const DropModel& s) {
  return std::string("DROP MODEL ") + (s.if_exists ? "IF EXISTS " : "") + QuoteName(s.name.text);
}

std::string Print(const ShowModels&) { return "SHOW MODELS"; }

std::string Print(const SetDefaultModel& s) {
  return "SET DEFAULT " + std::string(ModelTypeText(s.type)) + " " + QuoteName(s.name.text);
}

std::string Print(const CreateCollection& s) {
  std::string columns = Join(s.columns, [](const ColumnDefinition& column) {
    return QuoteName(column.name.text) + " " + ColumnTypeName(column.type);
  });
  if (!columns.empty()) columns = " (" + columns + ")";
  return "CREATE COLLECTION " + std::string(s.if_not_exists ? "IF NOT EXISTS " : "") +
         QuoteName(s.name.text) + columns + Options("WITH", s.options);
}

std::string Print(const DropCollection& s) {
  return std::string("DROP COLLECTION ") + (s.if_exists ? "IF EXISTS " : "") +
         QuoteName(s.name.text) + Options("WITH", s.options);
}

std::string Print(const AlterCollection& s) {
  return "ALTER COLLECTION " + QuoteName(s.name.text) + Options("SET", s.options);
}

std::string Print(const ShowCollections&) { return "SHOW COLLECTIONS"; }

std::string Print(const Describe& s) { return "DESCRIBE " + QuoteName(s.collection.text); }

std::string Print(const Copy& s) {
  return "COPY " + QuoteName(s.collection.text) + " FROM " +
         Join(s.sources, [](const Text& source) { return QuoteText(source.text); }) +
         Options("METADATA", s.metadata) + Options("WITH", s.options);
}

std::string Print(const Insert& s) {
  return "INSERT INTO " + QuoteName(s.collection.text) + " (" +
         Join(s.columns, [](const Name& column) { return QuoteName(column.text); }) + ") VALUES " +
         Join(s.rows, [](const std::vector<Literal>& row) {
           return "(" + Join(row, [](const Literal& value) { return ToSql(value); }) + ")";
         });
}

std::string Print(const Search& s) {
  return "SEARCH " + QuoteText(s.text.text) + " IN " + QuoteName(s.collection.text) +
         Where(s.where) + Count("LIMIT", s.limit) + Options("WITH", s.options);
}

std::string Print(const Answer& s) {
  return "ANSWER " + QuoteText(s.question.text) + " FROM " + QuoteName(s.collection.text) +
         Where(s.where) + NameClause("USING", s.model) + Options("WITH", s.options);
}

std::string Print(const CacheCollection& s) {
  return "CACHE COLLECTION " + QuoteName(s.collection.text) + Where(s.where) +
         NameClause("USING", s.model);
}

std::string Print(const ShowIndexes& s) { return "SHOW INDEXES" + NameClause("FOR", s.collection); }

std::string Print(const ShowCache& s) { return "SHOW CACHE" + NameClause("FOR", s.collection); }

std::string Print(const ClearCache& s) {
  return std::string("CLEAR CACHE") + (s.kind == CacheKind::kKv ? " KV" : "") +
         NameClause("FOR", s.collection);
}

std::string Print(const CheckModel& s) { return "CHECK MODEL " + QuoteName(s.name.text); }

std::string Print(const PinCache& s) {
  return "PIN CACHE FOR " + QuoteName(s.collection.text) + Where(s.where) +
         (s.tier == CacheTier::kDisk ? " TIER DISK" : "");
}

std::string Print(const UnpinCache& s) {
  return "UNPIN CACHE FOR " + QuoteName(s.collection.text) + Where(s.where);
}

std::string Print(const Compact& s) {
  return s.collection ? "COMPACT COLLECTION " + QuoteName(s.collection->text) : "COMPACT DATABASE";
}

std::string Print(const CheckDatabase&) { return "CHECK DATABASE"; }

std::string Print(const RepairDatabase&) { return "REPAIR DATABASE"; }

std::string Print(const BackupDatabase& s) {
  return "BACKUP DATABASE TO " + QuoteText(s.target.text) + Options("WITH", s.options);
}

std::string Print(const CheckBackup& s) { return "CHECK BACKUP " + QuoteText(s.backup.text); }

std::string Print(const RestoreDatabase& s) {
  return "RESTORE DATABASE FROM " + QuoteText(s.backup.text) + " AS " + QuoteText(s.target.text);
}

std::string Print(const SetSetting& s) {
  return "SET " + DottedName(s.name.text) + " = " + ToSql(s.value);
}

std::string Print(const ShowSettings& s) {
  return "SHOW SETTINGS" + (s.like ? " LIKE " + QuoteText(s.like->text) : "");
}

std::string Print(const Delete& s) {
  return "DELETE FROM " + QuoteName(s.collection.text) + " WHERE " + ToSql(s.where) +
         Options("WITH", s.options);
}

// `, name => value` for each argument.
std::string Arguments(const std::vector<Argument>& arguments) {
  std::string text;
  for (const Argument& argument : arguments) {
    text += ", " + OptionName(argument.name.text) + " => " + ToSql(argument.value);
  }
  return text;
}

std::string Print(const SearchClause& s) {
  std::string text = " SEARCH " + Join(s.matches, [](const MatchClause& match) {
                       const std::string quoted = QuoteText(match.text.text);
                       return (match.kind == MatchClause::Kind::kText
                                   ? "MATCH TEXT (content, " + quoted
                                   : "MATCH VECTOR (embedding, EMBED(" + quoted + ")") +
                              Arguments(match.arguments) + ")";
                     });
  if (!s.fusion.has_value()) return text;
  text += ", FUSION " + QuoteName(s.fusion->method.text);
  const std::string arguments = Arguments(s.fusion->arguments);
  return arguments.empty() ? text : text + " (" + arguments.substr(2) + ")";
}

std::string Print(const RerankClause& s) {
  return " RERANK" + (s.text.has_value() ? " " + QuoteText(s.text->text) + " ON content" : "") +
         " USING " + QuoteName(s.model.text) + Count("TOP", s.top);
}

std::string Print(const Select& s) {
  std::string order = Join(s.order_by, [](const OrderTerm& term) {
    return QuoteName(term.column.text) + (term.is_descending ? " DESC" : "");
  });
  if (!order.empty()) order = " ORDER BY " + order;
  return "SELECT " +
         Join(s.items,
              [](const SelectItem& item) -> std::string {
                if (item.kind == SelectItem::Kind::kStar) return "*";
                if (item.kind == SelectItem::Kind::kCount) return "COUNT(*)";
                if (item.kind == SelectItem::Kind::kFunction) {
                  return item.column.text + (item.column.text == "SNIPPET" ? "(content)" : "()");
                }
                return QuoteName(item.column.text);
              }) +
         " FROM " + QuoteName(s.collection.text) + (s.search.has_value() ? Print(*s.search) : "") +
         Where(s.where) + (s.rerank.has_value() ? Print(*s.rerank) : "") + order +
         Count("LIMIT", s.limit) + Count("OFFSET", s.offset);
}

std::string Print(const Explain& s) {
  return std::string("EXPLAIN ") + (s.is_analyze ? "ANALYZE " : "") +
         std::visit([](const auto& inner) { return Print(inner); }, s.statement);
}

// A term of AND, OR or NOT: in parentheses if it is a junction itself.
std::string PrintTerm(const Predicate& predicate) {
  const bool is_junction = std::holds_alternative<Junction>(predicate.node);
  return is_junction ? "(" + ToSql(predicate) + ")" : ToSql(predicate);
}

}  // namespace

std::string ToSql(const Statement& statement) {
  return std::visit([](const auto& s) { return Print(s); }, statement) + ";";
}

std::string ToSql(const Predicate& predicate) {
  const Overloaded print = {
      [](const Comparison& p) {
        return QuoteName(p.column.text) + " " + std::string(OperatorText(p.op)) + " " +
               ToSql(p.value);
      },
      [](const InList& p) {
        return QuoteName(p.column.text) + " " + std::string(Not(p.is_negated)) + "IN (" +
               Join(p.values, [](const Literal& value) { return ToSql(value); }) + ")";
      },
      [](const LikePattern& p) {
        return QuoteName(p.column.text) + " " + std::string(Not(p.is_negated)) + "LIKE " +
               ToSql(p.pattern);
      },
      [](const Containment& p) {
        return QuoteName(p.column.text) + " " + std::string(Not(p.is_negated)) + "CONTAINS " +
               ToSql(p.value);
      },
      [](const NullTest& p) {
        return QuoteName(p.column.text) + " IS " + std::string(Not(p.is_negated)) + "NULL";
      },
      [](const EmptyTest& p) {
        return QuoteName(p.column.text) + " IS " + std::string(Not(p.is_negated)) + "EMPTY";
      },
      [](const Junction& p) {
        std::string joined;
        for (const Predicate& term : p.terms) {
          if (!joined.empty()) joined += p.connective == Connective::kAnd ? " AND " : " OR ";
          joined += PrintTerm(term);
        }
        return joined;
      },
      [](const Negation& p) { return "NOT " + PrintTerm(p.term.front()); },
  };
  return std::visit(print, predicate.node);
}

std::string ToSql(const Literal& literal) {
  return literal.is_word ? QuoteName(literal.value.AsString()) : ValueToSql(literal.value);
}

std::string QuoteName(std::string_view name) {
  if (IsPlainWord(name) && !IsReserved(name)) return std::string(name);
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

std::string QuoteText(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += '\'';
    quoted += c;
  }
  return quoted + "'";
}

}  // namespace intarsia::query
