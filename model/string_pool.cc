#include "model/string_pool.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace intarsia::model {
namespace {
constexpr size_t kNumSlotsMin = 16;
constexpr int32_t kFree = -1;
}  // namespace

void StringPool::Reserve(int64_t num_strings, int64_t num_bytes) {
  bytes_.reserve(static_cast<size_t>(num_bytes));
  ends_.reserve(static_cast<size_t>(num_strings) + 1);
  Grow(std::bit_ceil(static_cast<size_t>(num_strings) * 2));
}

int32_t StringPool::Append(std::string_view text) {
  const int32_t index = size();
  if (ends_.size() * 2 > slots_.size()) Grow(slots_.size() * 2);
  bytes_.append(text);
  ends_.push_back(bytes_.size());
  const size_t slot = SlotOf(text);
  if (slots_[slot] == kFree) slots_[slot] = index;
  return index;
}

int32_t StringPool::FindOrAppend(std::string_view text) {
  const int32_t index = Find(text);
  return index >= 0 ? index : Append(text);
}

int32_t StringPool::Find(std::string_view text) const {
  return slots_.empty() ? kFree : slots_[SlotOf(text)];
}

// The slot that holds `text`, or the free one where it belongs. REQUIRES: a free slot.
size_t StringPool::SlotOf(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(text) & mask;
  while (slots_[slot] != kFree && Get(slots_[slot]) != text) slot = (slot + 1) & mask;
  return slot;
}

void StringPool::Grow(size_t num_slots) {
  if (num_slots <= slots_.size() && !slots_.empty()) return;
  slots_.assign(std::max(num_slots, kNumSlotsMin), kFree);
  for (int32_t index = 0; index < size(); ++index) {
    const size_t slot = SlotOf(Get(index));
    if (slots_[slot] == kFree) slots_[slot] = index;
  }
}

}  // namespace intarsia::model
