// ExtractHtml: renders HTML as text with blocks and sections.
//
// Thread safety: may be called concurrently on distinct documents.
#pragma once

#include <string_view>

#include "base/status.h"
#include "query/text_extractor.h"

namespace intarsia::query {

// Fills text, title, sections and blocks of `document` from `html`, which is well-formed UTF-8, and
// adds notices. Errors: kInvalidArgument if it has too many elements.
Status ExtractHtml(std::string_view html, const ExtractOptions& options, ExtractedText* document);

}  // namespace intarsia::query
