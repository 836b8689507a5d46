// HelpText: what .help prints.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "query/diagnostic.h"

namespace intarsia::client {

// Commands and statements on one page; `columns_max` of the terminal, 0: as wide as need be.
std::string HelpOverview(int64_t columns_max);

// Syntax and options of a statement, by the name of its topic or its first words: "answer", "pin",
// "show cache"; or "settings".
// Errors: kInput with the nearest topic.
query::Outcome<std::string> HelpTopic(std::string_view topic, int64_t columns_max);

}  // namespace intarsia::client
