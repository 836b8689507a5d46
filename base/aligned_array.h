// AlignedArray<T>: uninitialised memory for numbers, aligned to a cache line.
//
// Unlike a std::vector it does not touch its memory, so a workspace costs nothing until it is used.
// Large arrays ask for huge pages: a request's working memory is fresh each time, and taking it 4
// KiB at a time costs more than filling it.
//
// Thread safety: like an array.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <type_traits>
#include <utility>

#include <sys/mman.h>

#include "base/check.h"

namespace intarsia {

template <typename T>
class AlignedArray {
  static_assert(std::is_trivial_v<T>, "elements are neither constructed nor destroyed");

 public:
  static constexpr int64_t kAlignment = 64;

  AlignedArray() = default;
  explicit AlignedArray(int64_t size) : size_(size) {
    INTARSIA_CHECK(size >= 0);
    const int64_t wanted = size * static_cast<int64_t>(sizeof(T));
    if (wanted == 0) return;
    const int64_t alignment = wanted >= kHugePagesMin ? kHugePageBytes : kAlignment;
    const auto num_bytes = static_cast<size_t>((wanted + alignment - 1) / alignment * alignment);
    data_ = static_cast<T*>(std::aligned_alloc(static_cast<size_t>(alignment), num_bytes));
    INTARSIA_CHECK(data_ != nullptr);
    // Advice only: a kernel without huge pages refuses, and nothing changes.
    if (alignment == kHugePageBytes) ::madvise(data_, num_bytes, MADV_HUGEPAGE);
  }
  ~AlignedArray() { std::free(data_); }
  AlignedArray(AlignedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  int64_t num_bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  T& operator[](int64_t index) { return data_[index]; }
  const T& operator[](int64_t index) const { return data_[index]; }
  std::span<T> span() { return {data_, static_cast<size_t>(size_)}; }
  std::span<const T> span() const { return {data_, static_cast<size_t>(size_)}; }

 private:
  static constexpr int64_t kHugePageBytes = int64_t{2} << 20;
  static constexpr int64_t kHugePagesMin = 2 * kHugePageBytes;

  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace intarsia
