// AlignedArray<T>: uninitialised memory for numbers, aligned to a cache line.
//
// Unlike a std::vector it does not touch its memory, so a workspace costs nothing until it is used.
//
// Thread safety: like an array.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <type_traits>
#include <utility>

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
    const int64_t num_bytes =
        (size * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    if (num_bytes == 0) return;
    data_ = static_cast<T*>(std::aligned_alloc(kAlignment, static_cast<size_t>(num_bytes)));
    INTARSIA_CHECK(data_ != nullptr);
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
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace intarsia
