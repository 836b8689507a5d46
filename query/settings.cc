#include "query/settings.h"

#include <utility>

#include "query/filter.h"

namespace intarsia::query {

Failure Settings::Set(const SetSetting& statement) {
  INTARSIA_ASSIGN_OR_FAIL(const OptionSpec* spec,
                          FindOption(OptionTable::kSettings, statement.name));
  INTARSIA_ASSIGN_OR_FAIL(Value value, BindOptionValue(*spec, statement.value));
  values_.Set(spec->name, std::move(value));
  return {};
}

ResultSet Settings::Show(const ShowSettings& statement) const {
  ResultSet result;
  result.columns = {{"name", ValueKind::kString},
                    {"value", ValueKind::kNull},
                    {"default", ValueKind::kString},
                    {"values", ValueKind::kString},
                    {"help", ValueKind::kString}};
  for (const OptionSpec& spec : OptionsOf(OptionTable::kSettings)) {
    if (statement.like && !MatchesLike(spec.name, statement.like->text)) continue;
    result.rows.push_back({Value(spec.name), values_.Get(spec.name), Value(spec.default_text),
                           Value(DescribeValues(spec)), Value(spec.help)});
  }
  return result;
}

}  // namespace intarsia::query
