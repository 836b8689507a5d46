#include "base/memory_source.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "base/check.h"

namespace intarsia {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kBytesMax = std::numeric_limits<int64_t>::max() / 2;

int64_t Aligned(int64_t num_bytes) {
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

SlabMemory::SlabMemory(std::unique_ptr<MemorySource> source, int64_t slab_bytes, int64_t bytes_max)
    : source_(std::move(source)), slab_bytes_(Aligned(slab_bytes)), bytes_max_(bytes_max) {
  INTARSIA_CHECK(slab_bytes > 0 && slab_bytes <= kBytesMax && bytes_max >= 0);
}

SlabMemory::~SlabMemory() {
  for (const Slab& slab : slabs_) {
    INTARSIA_CHECK(slab.is_free());
    source_->Give(slab.memory);
  }
}

void* SlabMemory::TakeFrom(Slab* slab, int64_t num_bytes) {
  const auto found = std::ranges::find_if(slab->free, [num_bytes](const auto& range) {
    return range.second - range.first >= num_bytes;
  });
  if (found == slab->free.end()) return nullptr;
  const auto [begin, end] = *found;
  slab->free.erase(found);
  if (begin + num_bytes < end) slab->free.emplace(begin + num_bytes, end);
  return static_cast<uint8_t*>(slab->memory.data) + begin;
}

MemoryBlock SlabMemory::Take(int64_t num_bytes) {
  if (num_bytes <= 0 || num_bytes > kBytesMax) return {};
  num_bytes = Aligned(num_bytes);
  const std::scoped_lock lock(mutex_);
  for (Slab& slab : slabs_) {
    if (void* const data = TakeFrom(&slab, num_bytes); data != nullptr) return {data, num_bytes};
  }
  if (num_bytes > RoomLocked()) {
    // Those that are free as a whole were too small.
    std::erase_if(slabs_, [this](const Slab& slab) {
      if (slab.is_free()) source_->Give(slab.memory);
      return slab.is_free();
    });
  }
  const int64_t room = RoomLocked();
  if (num_bytes > room) return {};
  const MemoryBlock memory = source_->Take(std::min(std::max(slab_bytes_, num_bytes), room));
  if (memory.data == nullptr) return {};
  Slab& slab = slabs_.emplace_back();
  slab.memory = memory;
  slab.free.emplace(0, memory.num_bytes);
  return {TakeFrom(&slab, num_bytes), num_bytes};
}

int64_t SlabMemory::RoomLocked() const {
  int64_t room = bytes_max_;
  for (const Slab& slab : slabs_) room -= slab.memory.num_bytes;
  return room;
}

void SlabMemory::Give(const MemoryBlock& block) {
  const std::scoped_lock lock(mutex_);
  const auto slab = std::ranges::find_if(slabs_, [&block](const Slab& one) {
    const auto* const begin = static_cast<const uint8_t*>(one.memory.data);
    return block.data >= begin && block.data < begin + one.memory.num_bytes;
  });
  INTARSIA_CHECK(slab != slabs_.end());
  int64_t begin =
      static_cast<const uint8_t*>(block.data) - static_cast<const uint8_t*>(slab->memory.data);
  int64_t end = begin + block.num_bytes;
  const auto next = slab->free.lower_bound(begin);
  INTARSIA_CHECK(next == slab->free.end() || end <= next->first);
  if (next != slab->free.begin()) {
    const auto before = std::prev(next);
    INTARSIA_CHECK(before->second <= begin);
    if (before->second == begin) {
      begin = before->first;
      slab->free.erase(before);
    }
  }
  if (next != slab->free.end() && next->first == end) {
    end = next->second;
    slab->free.erase(next);
  }
  slab->free.emplace(begin, end);
  if (!slab->is_free() || std::ranges::count_if(slabs_, &Slab::is_free) < 2) return;
  source_->Give(slab->memory);
  slabs_.erase(slab);
}

int64_t SlabMemory::num_bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_max_ - RoomLocked();
}

}  // namespace intarsia
