#include "query/suggest.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace intarsia::query {
namespace {

constexpr size_t kCodePointsMax = 64;

struct FoldedName {
  std::array<char32_t, kCodePointsMax> code_points{};
  size_t size = 0;
};

FoldedName Fold(std::string_view name) {
  FoldedName folded;
  for (int64_t offset = 0;
       offset < static_cast<int64_t>(name.size()) && folded.size < kCodePointsMax;) {
    const CodePoint code_point = DecodeCodePoint(name, offset);
    const bool is_upper = code_point.value >= U'A' && code_point.value <= U'Z';
    folded.code_points[folded.size++] = is_upper ? code_point.value + 32 : code_point.value;
    offset += code_point.num_bytes;
  }
  return folded;
}

int64_t Distance(const FoldedName& a, const FoldedName& b) {
  // Three rows of the table: an exchange of neighbours looks two rows up.
  std::array<std::array<int64_t, kCodePointsMax + 1>, 3> rows{};
  for (size_t j = 0; j <= b.size; ++j) rows[0][j] = static_cast<int64_t>(j);
  for (size_t i = 1; i <= a.size; ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i + 2) % 3];
    const auto& two_above = rows[(i + 1) % 3];
    row[0] = static_cast<int64_t>(i);
    for (size_t j = 1; j <= b.size; ++j) {
      const char32_t x = a.code_points[i - 1];
      const char32_t y = b.code_points[j - 1];
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (x == y ? 0 : 1)});
      if (i > 1 && j > 1 && x == b.code_points[j - 2] && y == a.code_points[i - 2]) {
        row[j] = std::min(row[j], two_above[j - 2] + 1);
      }
    }
  }
  return rows[a.size % 3][b.size];
}

bool IsBeginningOf(const FoldedName& name, const FoldedName& candidate) {
  return name.size >= 3 && name.size < candidate.size &&
         std::equal(name.code_points.data(), name.code_points.data() + name.size,
                    candidate.code_points.data());
}

}  // namespace

int64_t EditDistance(std::string_view a, std::string_view b) { return Distance(Fold(a), Fold(b)); }

std::string_view NearestName(std::string_view name, std::span<const std::string_view> candidates) {
  const FoldedName folded = Fold(name);
  std::string_view nearest;
  int64_t nearest_distance = INT64_MAX;
  for (const std::string_view candidate : candidates) {
    const FoldedName other = Fold(candidate);
    int64_t distance = Distance(folded, other);
    const auto longer = static_cast<int64_t>(std::max(folded.size, other.size));
    if (distance > std::max<int64_t>(1, longer / 3)) {
      if (!IsBeginningOf(folded, other)) continue;
      distance += int64_t{kCodePointsMax};  // Behind every name that is near by its letters.
    }
    if (distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

std::string NearestName(std::string_view name, const std::vector<std::string>& candidates) {
  const std::vector<std::string_view> views(candidates.begin(), candidates.end());
  return std::string(NearestName(name, views));
}

std::string DidYouMean(std::string_view nearest) {
  if (nearest.empty()) return {};
  return "Did you mean \"" + std::string(nearest) + "\"?";
}

std::string JoinAlternatives(std::span<const std::string_view> words) {
  std::string joined;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) joined += i + 1 == words.size() ? " or " : ", ";
    joined += words[i];
  }
  return joined;
}

}  // namespace intarsia::query
