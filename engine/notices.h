// What a statement says besides its rows: notices, and the hint of an error after which part of its
// work stays.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "query/diagnostic.h"

namespace intarsia::engine {

// Appends a notice unless it is there.
void AddNotice(std::string notice, std::vector<std::string>* notices);

// What was done before a failure and stays: "3 documents", "committed".
struct DoneBefore {
  int64_t count = 0;
  std::string_view noun;
  std::string_view verb;  // its participle
};
// The diagnostic of `status`, whose hint says what was done before and how to go on.
query::Diagnostic WithReport(const Status& status, const DoneBefore& done);

}  // namespace intarsia::engine
