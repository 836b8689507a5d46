// StringPool: numbered strings, each kept once, found by content.
//
// Vocabularies hold hundreds of thousands of short strings; one arena and one table of numbers keep
// them in a few allocations.
//
// Thread safety: concurrent const calls only.
// Lifetime: a view is valid until the next string is appended.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace intarsia::model {

class StringPool {
 public:
  StringPool() : ends_{0} {}

  // Room for `num_strings` strings of `num_bytes` bytes together.
  void Reserve(int64_t num_strings, int64_t num_bytes);
  // Appends `text` under the next number, even if it is there already; Find returns the first.
  // The result is the number.
  int32_t Append(std::string_view text);
  // The number of `text`, appended if it is new.
  int32_t FindOrAppend(std::string_view text);
  // The number of `text`, or -1.
  int32_t Find(std::string_view text) const;

  // REQUIRES: 0 <= index < size().
  std::string_view Get(int32_t index) const {
    const auto i = static_cast<size_t>(index);
    return std::string_view(bytes_).substr(ends_[i], ends_[i + 1] - ends_[i]);
  }
  int32_t size() const { return static_cast<int32_t>(ends_.size()) - 1; }

 private:
  size_t SlotOf(std::string_view text) const;
  void Grow(size_t num_slots);

  std::string bytes_;
  std::vector<size_t> ends_;    // [size() + 1]: string i is bytes_[ends_[i], ends_[i + 1]).
  std::vector<int32_t> slots_;  // Open addressing, a power of two; -1 is free.
};

}  // namespace intarsia::model
