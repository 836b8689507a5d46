// ExtractMarkdown: finds blocks and sections in Markdown source.
//
// Thread safety: may be called concurrently on distinct documents.
#pragma once

#include "base/status.h"
#include "query/text_extractor.h"

namespace intarsia::query {

// Fills title, sections and blocks of `document` from its text, which is well-formed UTF-8 and
// stays as it is. CommonMark with the tables of GitHub and front matter (`---` to `---` at the
// beginning). Errors: kInvalidArgument if it has more than `options.elements_max` lines.
Status ExtractMarkdown(const ExtractOptions& options, ExtractedText* document);

}  // namespace intarsia::query
