// Counted(): a number with its noun, as messages say it.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia {

// "1 document", "2 documents": `noun`, whose plural takes an s.
inline std::string Counted(int64_t count, std::string_view noun) {
  return std::to_string(count) + " " + std::string(noun) + (count == 1 ? "" : "s");
}

}  // namespace intarsia
