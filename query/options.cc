#include "query/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "base/check.h"
#include "query/ast_printer.h"
#include "query/lexer.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

// A bound as people write it: 8192, 0.5.
std::string FormatNumber(double number) {
  if (number == std::floor(number)) return std::to_string(static_cast<int64_t>(number));
  return ToText(Value(number), "");
}

struct Unit {
  std::string_view name;
  double size;
};
constexpr std::array<Unit, 10> kByteUnits = {{{"", 1},
                                              {"B", 1},
                                              {"KB", 1e3},
                                              {"MB", 1e6},
                                              {"GB", 1e9},
                                              {"TB", 1e12},
                                              {"KiB", 0x1p10},
                                              {"MiB", 0x1p20},
                                              {"GiB", 0x1p30},
                                              {"TiB", 0x1p40}}};
constexpr std::array<Unit, 6> kSecondUnits = {
    {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3'600}, {"d", 86'400}, {"w", 604'800}}};

// "512MB" or "1.5 GiB" in bytes, "90s" or "12 h" in seconds: in [0, 9e18], not rounded.
std::optional<double> ParseQuantity(std::string_view text, std::span<const Unit> units) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (result.ec != std::errc()) return std::nullopt;
  std::string_view name(result.ptr, static_cast<size_t>(end - result.ptr));
  while (name.starts_with(' ')) name.remove_prefix(1);
  for (const Unit& unit : units) {
    if (!EqualsIgnoringCase(name, unit.name)) continue;
    const double quantity = number * unit.size;
    if (!(quantity >= 0) || quantity > 9e18) return std::nullopt;
    return quantity;
  }
  return std::nullopt;
}

std::optional<Value> ConvertBoolean(const Value& value) {
  if (value.kind() == ValueKind::kBoolean) return value;
  if (value.kind() != ValueKind::kString) return std::nullopt;
  for (const std::string_view word : {"true", "on"}) {
    if (EqualsIgnoringCase(value.AsString(), word)) return Value(true);
  }
  for (const std::string_view word : {"false", "off"}) {
    if (EqualsIgnoringCase(value.AsString(), word)) return Value(false);
  }
  return std::nullopt;
}

std::optional<Value> ConvertNumber(const OptionSpec& spec, const Value& value) {
  if (spec.type == OptionType::kDouble) {
    double number = 0;
    if (value.kind() == ValueKind::kInteger) {
      number = static_cast<double>(value.AsInteger());
    } else if (value.kind() == ValueKind::kDouble) {
      number = value.AsDouble();
    } else {
      return std::nullopt;
    }
    const bool is_inside = number >= spec.minimum && number <= spec.maximum;
    return is_inside ? std::optional(Value(number)) : std::nullopt;
  }
  int64_t number = 0;
  if (value.kind() == ValueKind::kInteger) {
    number = value.AsInteger();
  } else if (spec.type == OptionType::kBytes && value.kind() == ValueKind::kString) {
    const std::optional<double> bytes = ParseQuantity(value.AsString(), kByteUnits);
    if (!bytes) return std::nullopt;
    number = static_cast<int64_t>(*bytes);
  } else if (spec.type == OptionType::kDuration && value.kind() == ValueKind::kString) {
    const std::optional<double> seconds = ParseQuantity(value.AsString(), kSecondUnits);
    // A little more than nothing is not without end.
    if (!seconds || (*seconds > 0 && *seconds < 1)) return std::nullopt;
    number = static_cast<int64_t>(*seconds);
  } else {
    return std::nullopt;
  }
  // Bounds are at most 2^50, so they are exact as integers.
  const bool is_inside =
      number >= static_cast<int64_t>(spec.minimum) && number <= static_cast<int64_t>(spec.maximum);
  return is_inside ? std::optional(Value(number)) : std::nullopt;
}

// `value` as the option takes it, or nothing.
std::optional<Value> Convert(const OptionSpec& spec, const Value& value) {
  switch (spec.type) {
    case OptionType::kBoolean:
      return ConvertBoolean(value);
    case OptionType::kInteger:
    case OptionType::kDouble:
    case OptionType::kBytes:
    case OptionType::kDuration:
      return ConvertNumber(spec, value);
    case OptionType::kText:
      return value.kind() == ValueKind::kString ? std::optional(value) : std::nullopt;
    case OptionType::kName:
      if (value.kind() != ValueKind::kString || value.AsString().empty()) return std::nullopt;
      return value;
    case OptionType::kChoice:
      // `off` may have been written FALSE, and `on` TRUE, as for a boolean.
      if (value.kind() == ValueKind::kBoolean) {
        return Convert(spec, Value(value.AsBoolean() ? "on" : "off"));
      }
      if (value.kind() != ValueKind::kString) return std::nullopt;
      for (const std::string_view choice : spec.choices) {
        if (EqualsIgnoringCase(choice, value.AsString())) return Value(choice);
      }
      return std::nullopt;
  }
  return std::nullopt;
}

Value ParseDefault(const OptionSpec& spec) {
  if (spec.default_text.empty()) return Value();
  Value written(spec.default_text);
  if (spec.type == OptionType::kInteger || spec.type == OptionType::kBytes ||
      spec.type == OptionType::kDuration || spec.type == OptionType::kDouble) {
    double number = 0;
    std::from_chars(spec.default_text.data(), spec.default_text.data() + spec.default_text.size(),
                    number);
    written =
        spec.type == OptionType::kDouble ? Value(number) : Value(static_cast<int64_t>(number));
  }
  const std::optional<Value> value = Convert(spec, written);
  INTARSIA_CHECK(value.has_value());
  return *value;
}

std::string_view TableNoun(OptionTable table) {
  return table == OptionTable::kSettings ? "setting" : "option";
}

std::string_view TableName(OptionTable table) {
  static constexpr std::array<std::string_view, 9> kNames = {"CREATE MODEL",
                                                             "CREATE COLLECTION",
                                                             "ALTER COLLECTION",
                                                             "COPY",
                                                             "SEARCH",
                                                             "ANSWER",
                                                             "BACKUP",
                                                             "DELETE or DROP COLLECTION",
                                                             "SET"};
  return kNames[static_cast<size_t>(table)];
}

}  // namespace

std::string DescribeValues(const OptionSpec& spec) {
  const std::string range =
      " from " + FormatNumber(spec.minimum) + " to " + FormatNumber(spec.maximum);
  switch (spec.type) {
    case OptionType::kBoolean:
      return "true or false";
    case OptionType::kInteger:
      return "an integer" + range;
    case OptionType::kDouble:
      return "a number" + range;
    case OptionType::kText:
      return "a text";
    case OptionType::kName:
      return "a name";
    case OptionType::kBytes:
      return "a number of bytes, or a text such as '512MB'";
    case OptionType::kDuration:
      return "a number of seconds, or a text such as '7d'";
    case OptionType::kChoice:
      break;
  }
  std::vector<std::string> quoted;
  for (const std::string_view choice : spec.choices) quoted.push_back(QuoteText(choice));
  const std::vector<std::string_view> views(quoted.begin(), quoted.end());
  return JoinAlternatives(views);
}

Outcome<const OptionSpec*> FindOption(OptionTable table, const Name& name) {
  std::vector<std::string_view> names;
  for (const OptionSpec& spec : OptionsOf(table)) {
    if (EqualsIgnoringCase(spec.name, name.text)) return &spec;
    names.push_back(spec.name);
    if (spec.synonym.empty()) continue;
    if (EqualsIgnoringCase(spec.synonym, name.text)) return &spec;
    names.push_back(spec.synonym);
  }
  const bool is_setting = table == OptionTable::kSettings;
  std::string message = "unknown " + std::string(TableNoun(table)) + " \"" + name.text + "\"";
  if (!is_setting) message += " of " + std::string(TableName(table));
  std::string hint = DidYouMean(NearestName(name.text, names));
  if (hint.empty()) {
    hint = is_setting ? "SHOW SETTINGS lists them." : "It takes " + JoinAlternatives(names) + ".";
  }
  return BinderError(name.range, std::move(message), std::move(hint));
}

Outcome<Value> BindOptionValue(const OptionSpec& spec, const Literal& value) {
  std::optional<Value> converted = Convert(spec, value.value);
  if (converted) return *std::move(converted);
  std::string hint;
  if (spec.type == OptionType::kChoice && value.value.kind() == ValueKind::kString) {
    hint = DidYouMean(NearestName(value.value.AsString(), spec.choices));
  }
  return BinderError(
      value.range,
      std::string(spec.name) + " must be " + DescribeValues(spec) + ", not " + ToSql(value),
      std::move(hint));
}

BoundOptions::BoundOptions(OptionTable table) : table_(table) {
  for (const OptionSpec& spec : OptionsOf(table)) values_.push_back(ParseDefault(spec));
  is_given_.resize(values_.size());
  ranges_.resize(values_.size());
}

int64_t BoundOptions::IndexOf(std::string_view name) const {
  const std::span<const OptionSpec> specs = OptionsOf(table_);
  const auto found = std::find_if(specs.begin(), specs.end(),
                                  [name](const OptionSpec& spec) { return spec.name == name; });
  INTARSIA_CHECK(found != specs.end());
  return found - specs.begin();
}

const Value& BoundOptions::Get(std::string_view name) const {
  return values_[static_cast<size_t>(IndexOf(name))];
}
bool BoundOptions::GetBoolean(std::string_view name) const { return Get(name).AsBoolean(); }
int64_t BoundOptions::GetInteger(std::string_view name) const { return Get(name).AsInteger(); }
double BoundOptions::GetDouble(std::string_view name) const { return Get(name).AsDouble(); }
const std::string& BoundOptions::GetText(std::string_view name) const {
  return Get(name).AsString();
}
bool BoundOptions::is_set(std::string_view name) const { return !Get(name).is_null(); }
bool BoundOptions::is_given(std::string_view name) const {
  return is_given_[static_cast<size_t>(IndexOf(name))] != 0;
}

void BoundOptions::Set(std::string_view name, Value value) {
  const auto index = static_cast<size_t>(IndexOf(name));
  values_[index] = std::move(value);
  is_given_[index] = 1;
}

SourceRange BoundOptions::RangeOf(std::string_view name) const {
  return ranges_[static_cast<size_t>(IndexOf(name))];
}

void BoundOptions::SetRange(std::string_view name, SourceRange range) {
  ranges_[static_cast<size_t>(IndexOf(name))] = range;
}

namespace {

// What a preset decides, unless it is given itself.
void ApplyPreset(BoundOptions* bound) {
  const std::string preset = bound->GetText("preset");
  const auto decide = [bound](std::string_view name, Value value) {
    if (!bound->is_given(name)) bound->Set(name, std::move(value));
  };
  if (preset == "careful") decide("ratio", Value(0.30));
  if (preset != "fast") return;
  decide("ratio", Value(0.05));
  // Of few rows, each should tell the others' neighbours the most, if they are told anything
  // (docs/decisions/0005-rows-by-design.md).
  if (bound->GetText("propagate") != "off") decide("selector", Value(std::string("design")));
}

}  // namespace

Outcome<BoundOptions> BindOptions(OptionTable table, const std::vector<Option>& options) {
  BoundOptions bound(table);
  for (const Option& option : options) {
    INTARSIA_ASSIGN_OR_FAIL(const OptionSpec* spec, FindOption(table, option.name));
    if (bound.is_given(spec->name)) {
      const bool is_synonym = !EqualsIgnoringCase(spec->name, option.name.text);
      return BinderError(option.name.range,
                         "option \"" + std::string(spec->name) + "\" is given twice",
                         is_synonym ? "\"" + option.name.text + "\" is another name for it." : "");
    }
    INTARSIA_ASSIGN_OR_FAIL(Value value, BindOptionValue(*spec, option.value));
    bound.Set(spec->name, std::move(value));
    bound.SetRange(spec->name, option.value.range);
  }
  if (table == OptionTable::kAnswer && bound.is_given("preset")) ApplyPreset(&bound);
  return bound;
}

ResultSet DescribeOptions(OptionTable table) {
  ResultSet result;
  result.columns = {{std::string(TableNoun(table)), ValueKind::kString},
                    {"values", ValueKind::kString},
                    {"default", ValueKind::kString},
                    {"help", ValueKind::kString}};
  for (const OptionSpec& spec : OptionsOf(table)) {
    result.rows.push_back({Value(spec.name), Value(DescribeValues(spec)),
                           spec.default_text.empty() ? Value() : Value(spec.default_text),
                           Value(spec.help)});
  }
  return result;
}

}  // namespace intarsia::query
