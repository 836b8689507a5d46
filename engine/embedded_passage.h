// EmbeddedPassage: what is embedded of a chunk, which says where it stands: a chunk "Options" of a
// page about indexes.
//
// Thread safety: may be called concurrently.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace intarsia::engine {

// The title, the headings below it, and the text.
std::string EmbeddedPassage(std::string_view title, std::span<const std::string> heading_path,
                            std::string_view text);

}  // namespace intarsia::engine
