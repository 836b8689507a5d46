// BufferSource: memory whose blocks are owned by objects, one each, as a source of memory.
//
// Thread safety: owned by one thread at a time; a SlabMemory calls it with its lock held.
#pragma once

#include <cstdint>
#include <map>
#include <type_traits>
#include <utility>

#include "base/memory_source.h"
#include "base/result.h"

namespace intarsia::engine {

// `Allocate` is called with a number of bytes and returns a Result of an object with data(), whose
// memory lives as long as itself. Whatever is its error, there is no memory; who needs what it
// comes from will be told.
template <typename Allocate>
class BufferSource : public MemorySource {
 public:
  explicit BufferSource(Allocate allocate) : allocate_(std::move(allocate)) {}

  MemoryBlock Take(int64_t num_bytes) override {
    auto buffer = allocate_(num_bytes);
    if (!buffer.ok()) return {};
    void* const data = buffer->data();
    buffers_.emplace(data, *std::move(buffer));
    return {data, num_bytes};
  }
  void Give(const MemoryBlock& block) override { buffers_.erase(block.data); }

 private:
  using Buffer = std::decay_t<decltype(*std::declval<Allocate&>()(int64_t{}))>;

  Allocate allocate_;  // before the memory, which may need what it holds
  std::map<void*, Buffer> buffers_;
};

}  // namespace intarsia::engine
