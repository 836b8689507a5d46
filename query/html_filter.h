// FilterHtml: HTML reduced to the tags that give a text its structure, so that parsing it is safe.
//
// An HTML tree builder does work that is quadratic, or uses a stack that is linear, in the depth of
// unclosed elements, in the number of attributes of a tag and in that of open formatting elements.
// The filter leaves none of these: it drops comments, attributes, scripts and styles with their
// content and all tags that are not blocks, closes in order what is open, and flattens what is
// nested too deep. Text and character references pass unchanged. Before their attributes go,
// containers that say by role or class that they are navigation are written as <nav>, and notes and
// warnings as <aside>.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::query {

struct FilteredHtml {
  std::string html;
  int64_t num_flattened = 0;  // elements that were too deep and moved outwards
};

struct HtmlFilterOptions {
  int32_t depth_max = 200;  // at least 1
  int64_t elements_max = 2'000'000;
};

// Linear in the size of `html`.
// Errors: kInvalidArgument if more than `elements_max` elements are left.
Result<FilteredHtml> FilterHtml(std::string_view html, const HtmlFilterOptions& options);

}  // namespace intarsia::query
