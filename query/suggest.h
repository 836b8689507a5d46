// EditDistance, NearestName: the name that was probably meant.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace intarsia::query {

// The least number of insertions, deletions, replacements and exchanges of neighbours (optimal
// string alignment) that turn `a` into `b`, in code points; ASCII letters compare without case.
// Names longer than 64 code points are compared by their first 64.
int64_t EditDistance(std::string_view a, std::string_view b);

// The candidate nearest to `name`, the first of equals, or empty if none is near: at most one edit
// for each three code points of the longer one (one at least), or `name` is a beginning of it with
// three or more letters.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> candidates);
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);

// `Did you mean "x"?`, or empty if `nearest` is.
std::string DidYouMean(std::string_view nearest);

// "a, b or c"; for `words` [1..].
std::string JoinAlternatives(std::span<const std::string_view> words);

}  // namespace intarsia::query
