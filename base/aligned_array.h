// AlignedArray<T>: uninitialised memory for numbers, aligned to a cache line.
//
// Unlike a std::vector it does not touch its memory, so a workspace costs nothing until it is used.
// Large arrays ask for huge pages, and may take their memory from what earlier requests gave back
// (base/memory_pool.h).
//
// Thread safety: like an array.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/memory_pool.h"
#include "base/result.h"

namespace intarsia {

template <typename T>
class AlignedArray {
  static_assert(std::is_trivial_v<T>, "elements are neither constructed nor destroyed");

 public:
  static constexpr int64_t kAlignment = 64;

  AlignedArray() = default;
  // Ends the program if memory runs out: for arrays that are small whatever a request asks for.
  explicit AlignedArray(int64_t size) : size_(size) {
    INTARSIA_CHECK(size >= 0 && size <= kSizeMax);
    if (size == 0) return;
    block_ = MemoryPool::Allocate(num_bytes());
    INTARSIA_CHECK(block_.data != nullptr);
  }
  ~AlignedArray() { Release(); }
  AlignedArray(AlignedArray&& other) noexcept
      : block_(std::exchange(other.block_, {})),
        size_(std::exchange(other.size_, 0)),
        pool_(std::move(other.pool_)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(block_, other.block_);
    std::swap(size_, other.size_);
    std::swap(pool_, other.pool_);
    return *this;
  }

  // An array for what a request makes large. One of MemoryPool::kBlockBytesMin and more comes from
  // `pool`, which may be null, and holds anything.
  // Errors: kResourceExhausted with the number of bytes. REQUIRES: size >= 0.
  static Result<AlignedArray> TryCreate(int64_t size,
                                        const std::shared_ptr<MemoryPool>& pool = nullptr) {
    INTARSIA_CHECK(size >= 0);
    AlignedArray array;
    if (size == 0) return array;
    if (size <= kSizeMax) {
      array.size_ = size;
      if (pool != nullptr && array.num_bytes() >= MemoryPool::kBlockBytesMin) array.pool_ = pool;
      array.block_ = array.pool_ != nullptr ? pool->Take(array.num_bytes())
                                            : MemoryPool::Allocate(array.num_bytes());
    }
    if (array.block_.data == nullptr) {
      array.pool_ = nullptr;  // it has nothing to get back
      return Status(StatusCode::kResourceExhausted,
                    "out of memory: elements=" + std::to_string(size) +
                        " bytes_each=" + std::to_string(sizeof(T)));
    }
    return array;
  }

  T* data() { return static_cast<T*>(block_.data); }
  const T* data() const { return static_cast<const T*>(block_.data); }
  int64_t size() const { return size_; }
  int64_t num_bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  T& operator[](int64_t index) { return data()[index]; }
  const T& operator[](int64_t index) const { return data()[index]; }
  std::span<T> span() { return {data(), static_cast<size_t>(size_)}; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(size_)}; }

 private:
  static constexpr int64_t kSizeMax = std::numeric_limits<int64_t>::max() / int64_t{sizeof(T)};

  void Release() {
    if (pool_ != nullptr) {
      pool_->Give(block_);
    } else {
      MemoryPool::Free(block_);
    }
  }

  MemoryBlock block_;
  int64_t size_ = 0;
  std::shared_ptr<MemoryPool> pool_;  // where block_ goes back to; null: the system
};

}  // namespace intarsia
