#include "model/token_sink.h"

namespace intarsia::model {
namespace {
// Bounds the memory of a call; words beyond these are rare or long, and repeat seldom.
constexpr size_t kNumWordsMax = size_t{1} << 16;
constexpr size_t kWordBytesMax = 64;
}  // namespace

bool TokenSink::Repeat(std::string_view word, int64_t offset) {
  if (word.size() > kWordBytesMax) return false;
  const auto found = words_.find(word);
  if (found == words_.end()) return false;
  const Remembered& old = found->second;
  for (int64_t i = old.first; i < old.last; ++i) {
    const auto index = static_cast<size_t>(i);
    TokenRange range;
    if (keeps_ranges_) range = encoded_.ranges[index];
    const int64_t shift = offset - old.offset;
    Add(encoded_.ids[index], range.begin + shift, range.end + shift);
  }
  return true;
}

void TokenSink::Remember(std::string_view word, int64_t offset, int64_t first) {
  if (word.size() > kWordBytesMax || words_.size() >= kNumWordsMax) return;
  words_.emplace(word, Remembered{offset, first, size()});
}

}  // namespace intarsia::model
