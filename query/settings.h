// Settings: what SET changes and SHOW SETTINGS shows.
//
// A setting lives as long as its session. The table is OptionTable::kSettings.
//
// Thread safety: owned by one session.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/options.h"
#include "query/value.h"

namespace intarsia::query {

class Settings {
 public:
  Settings() : values_(OptionTable::kSettings) {}

  // Errors: kBinder for an unknown setting (with the nearest) and a bad value; nothing changes.
  Failure Set(const SetSetting& statement);

  // REQUIRES of all: the table has a setting `name` of that type.
  bool GetBoolean(std::string_view name) const { return values_.GetBoolean(name); }
  int64_t GetInteger(std::string_view name) const { return values_.GetInteger(name); }
  double GetDouble(std::string_view name) const { return values_.GetDouble(name); }
  const std::string& GetText(std::string_view name) const { return values_.GetText(name); }

  // name, value, default, values, help; those whose name is LIKE the pattern, all without one.
  ResultSet Show(const ShowSettings& statement) const;

 private:
  BoundOptions values_;
};

}  // namespace intarsia::query
