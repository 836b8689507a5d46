// Stands in for the header of this name in kernels/: each instruction by its definition in the PTX
// ISA. Products read registers and shared memory, and write their sums, only when they are waited
// for; bulk copies land at some later time.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/kernels/emulation/cuda.h"
#include "tests/kernels/emulation/emulated_block.h"
#include "tests/kernels/emulation/kernels/tensor_core.cuh"

namespace intarsia::kernels {

// What a thread brings to a product.
struct ProductArguments {
  float* d;
  const uint32_t* a_registers;  // or null: A is in shared memory
  uint64_t a;
  uint64_t b;
  int is_added;
  int* d_bytes = nullptr;  // in place of d: a product of bytes
};

struct Product {
  int num_columns;
  ProductArguments arguments;  // of the first thread; descriptors are the same for all
  std::vector<float*> d;       // [128]
  std::vector<int*> d_bytes;   // [128], in place of d
  std::vector<const uint32_t*> a_registers;
};

struct EmulatedWarpgroup {
  bool is_fenced = false;
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
};

struct PhaseBarrier {
  uint32_t num_arrivals = 0;
  uint32_t num_missing = 0;
  int64_t num_bytes_missing = 0;
  uint32_t parity = 0;

  void EndPhaseIfComplete() {
    if (num_missing != 0 || num_bytes_missing != 0) return;
    parity ^= 1;
    num_missing = num_arrivals;
  }
};

struct NamedBarrier {
  int num_present = 0;
  uint64_t number = 0;
};

// What Hopper adds to a block.
struct HopperBlock {
  std::map<int, EmulatedWarpgroup> warpgroups;
  std::map<uint32_t, PhaseBarrier> phase_barriers;
  std::map<int, NamedBarrier> named_barriers;
};

inline HopperBlock& Hopper() {
  std::any& extension = Block().extension();
  if (!extension.has_value()) extension = HopperBlock();
  return std::any_cast<HopperBlock&>(extension);
}

// ---- Products ----

// The bits of a shared address that its own bits above permute, with swizzles of 128 bytes.
inline uint32_t Swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

inline uint64_t MatrixDescriptor(uint32_t shared_address, uint32_t stride, uint32_t slab_stride) {
  return uint64_t{1} << 62 | uint64_t{stride >> 4} << 32 | uint64_t{slab_stride >> 4} << 16 |
         (shared_address & 0x3ffffU) >> 4;
}

enum class Rows { kOfK, kOfMn };  // whether rows of memory run along k or along m or n

inline float MatrixElement(uint64_t descriptor, Rows rows, int mn, int k) {
  const auto field = [&](int shift) {
    return static_cast<uint32_t>(descriptor >> shift & 0x3fff) << 4;
  };
  const uint32_t stride = field(32);
  const int row = rows == Rows::kOfK ? mn : k;
  const int column = rows == Rows::kOfK ? k : mn;
  const uint32_t address =
      field(0) + static_cast<uint32_t>(row / 8) * stride + static_cast<uint32_t>(row % 8) * 128 +
      static_cast<uint32_t>(column / 64) * field(16) + static_cast<uint32_t>(column % 64) * 2;
  uint16_t bits;
  std::memcpy(&bits, Block().At(Swizzled(address), 2), 2);
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

inline float LeftElement(const Product& product, int row, int k) {
  if (product.arguments.a_registers == nullptr) {
    return MatrixElement(product.arguments.a, Rows::kOfK, row, k);
  }
  const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2;
  const uint32_t pair = product.a_registers[static_cast<size_t>(thread)][row % 16 / 8 + k / 8 * 2];
  return k % 2 == 0 ? LowBf16(pair) : HighBf16(pair);
}

inline void ComputeBytes(const Product& product) {
  const uint64_t descriptor = product.arguments.b;
  for (int row = 0; row < 64; ++row) {
    int left[32];
    for (int k = 0; k < 32; ++k) {
      const int thread = row / 16 * 32 + row % 8 * 4 + k % 16 / 4;
      const uint32_t word =
          product.a_registers[static_cast<size_t>(thread)][row % 16 / 8 + k / 16 * 2];
      left[k] = static_cast<int>(word >> (k % 4 * 8) & 0xff);
    }
    for (int i = 0; i < product.num_columns; ++i) {
      const auto field = [&](int shift) {
        return static_cast<uint32_t>(descriptor >> shift & 0x3fff) << 4;
      };
      int sum = 0;
      for (int half = 0; half < 2; ++half) {
        const uint32_t address = field(0) + static_cast<uint32_t>(i / 8) * field(32) +
                                 static_cast<uint32_t>(i % 8 * 128 + half * 16);
        int8_t right[16];
        std::memcpy(right, Block().At(Swizzled(address), 16), 16);
        for (int k = 0; k < 16; ++k) sum += left[half * 16 + k] * right[k];
      }
      const int thread = row / 16 * 32 + row % 8 * 4 + i % 8 / 2;
      int& d = product.d_bytes[static_cast<size_t>(thread)][i / 8 * 4 + row % 16 / 8 * 2 + i % 2];
      d = (product.arguments.is_added != 0 ? d : 0) + sum;
    }
  }
}

inline void Compute(const Product& product) {
  if (product.arguments.d_bytes != nullptr) {
    ComputeBytes(product);
    return;
  }
  const int n = product.num_columns;
  const Rows b_rows = product.arguments.a_registers == nullptr ? Rows::kOfK : Rows::kOfMn;
  std::vector<float> b(static_cast<size_t>(16 * n));
  for (int k = 0; k < 16; ++k) {
    for (int i = 0; i < n; ++i) {
      b[static_cast<size_t>(k * n + i)] = MatrixElement(product.arguments.b, b_rows, i, k);
    }
  }
  for (int row = 0; row < 64; ++row) {
    std::vector<float> sums(static_cast<size_t>(n), 0.0f);
    for (int k = 0; k < 16; ++k) {
      const float a = LeftElement(product, row, k);
      for (int i = 0; i < n; ++i) {
        sums[static_cast<size_t>(i)] += a * b[static_cast<size_t>(k * n + i)];
      }
    }
    for (int i = 0; i < n; ++i) {
      const int thread = row / 16 * 32 + row % 8 * 4 + i % 8 / 2;
      float& d = product.d[static_cast<size_t>(thread)][i / 8 * 4 + row % 16 / 8 * 2 + i % 2];
      d = (product.arguments.is_added != 0 ? d : 0.0f) + sums[static_cast<size_t>(i)];
    }
  }
}

// Meets the other threads of the warpgroup.
template <typename Act>
void MeetWarpgroup(int32_t kind, void* brought, const Act& act) {
  const int group = Block().thread() / 128;
  Block().Meet(kind, group, 128, Block().thread() % 128, brought,
               [&](void* const* all) { act(Hopper().warpgroups[group], all); });
}

inline void FenceProducts() {
  MeetWarpgroup(10, nullptr,
                [](EmulatedWarpgroup& group, void* const*) { group.is_fenced = true; });
}

inline void CommitProducts() {
  MeetWarpgroup(11, nullptr, [](EmulatedWarpgroup& group, void* const*) {
    group.groups.push_back(std::move(group.open));
    group.open.clear();
  });
}

template <int kGroups>
void WaitForProducts() {
  MeetWarpgroup(12, nullptr, [](EmulatedWarpgroup& group, void* const*) {
    group.is_fenced = false;
    while (group.groups.size() > size_t{kGroups}) {
      for (const Product& product : group.groups.front()) Compute(product);
      group.groups.pop_front();
    }
  });
}

template <int kSize>
void HoldRegisters(float (&)[kSize]) {}
template <int kSize>
void HoldRegisters(int (&)[kSize]) {}
template <int kSize>
void HoldRegisters(uint32_t (&)[kSize]) {}

inline void StartProduct(int num_columns, ProductArguments self) {
  MeetWarpgroup(13, &self, [=](EmulatedWarpgroup& group, void* const* all) {
    INTARSIA_CHECK(group.is_fenced);
    Product product{num_columns, *static_cast<const ProductArguments*>(all[0]), {}, {}, {}};
    for (int i = 0; i < 128; ++i) {
      const auto& arguments = *static_cast<const ProductArguments*>(all[i]);
      INTARSIA_CHECK(arguments.a == product.arguments.a && arguments.b == product.arguments.b);
      product.d.push_back(arguments.d);
      product.d_bytes.push_back(arguments.d_bytes);
      product.a_registers.push_back(arguments.a_registers);
    }
    group.open.push_back(std::move(product));
  });
}

template <int kSize>
void MultiplyShared(float (&d)[kSize], uint64_t a, uint64_t b, int is_added) {
  StartProduct(2 * kSize, {d, nullptr, a, b, is_added});
}

template <int kSize>
void MultiplyRegisters(float (&d)[kSize], const uint32_t (&a)[4], uint64_t b) {
  StartProduct(2 * kSize, {d, a, 0, b, 1});
}

template <int kSize>
void MultiplyBytes(int (&d)[kSize], const uint32_t (&a)[4], uint64_t b, int is_added) {
  StartProduct(2 * kSize, {nullptr, a, 0, b, is_added, d});
}

// ---- Barriers in shared memory ----

inline PhaseBarrier& PhaseBarrierAt(uint32_t barrier) {
  const auto found = Hopper().phase_barriers.find(barrier);
  INTARSIA_CHECK(found != Hopper().phase_barriers.end());
  return found->second;
}

inline void InitBarrier(uint32_t barrier, uint32_t num_arrivals) {
  INTARSIA_CHECK(barrier % 8 == 0 && Block().At(barrier, 8) != nullptr);
  Hopper().phase_barriers[barrier] = {num_arrivals, num_arrivals, 0, 0};
}
inline void FenceBarrierInit() {}

inline void ArriveAndExpectBytes(uint32_t barrier, uint32_t num_bytes) {
  PhaseBarrier& state = PhaseBarrierAt(barrier);
  INTARSIA_CHECK(state.num_missing > 0);
  --state.num_missing;
  state.num_bytes_missing += num_bytes;
  state.EndPhaseIfComplete();
}
inline void ArriveAtBarrier(uint32_t barrier) { ArriveAndExpectBytes(barrier, 0); }

inline void WaitAtBarrier(uint32_t barrier, uint32_t parity) {
  Block().WaitUntil([=] { return PhaseBarrierAt(barrier).parity != parity; });
}

// ---- Bulk copies ----

inline void CopyBox(uint32_t shared_address, const CUtensorMap* map, uint32_t barrier,
                    int32_t column, int32_t row) {
  INTARSIA_CHECK(shared_address % 1024 == 0 && column >= 0 && column + 64 <= map->num_columns);
  INTARSIA_CHECK(row >= 0 && row + map->box_rows <= map->num_rows);
  Block().DoLater([=] {
    for (int32_t i = 0; i < map->box_rows; ++i) {
      const uint16_t* const source = map->data + int64_t{row + i} * map->num_columns + column;
      for (int32_t piece = 0; piece < 8; ++piece) {
        const uint32_t address = shared_address + static_cast<uint32_t>(i * 128 + piece * 16);
        std::memcpy(Block().At(Swizzled(address), 16), source + piece * 8, 16);
      }
    }
    PhaseBarrier& state = PhaseBarrierAt(barrier);
    state.num_bytes_missing -= map->box_rows * 128;
    state.EndPhaseIfComplete();
  });
}
inline void FenceSharedForAsync() {}

// ---- Warpgroups among each other ----

inline void ArriveAt(int id, int num_threads) {
  INTARSIA_CHECK(id >= 1 && id <= 15);
  NamedBarrier& barrier = Hopper().named_barriers[id];
  if (++barrier.num_present < num_threads) return;
  barrier.num_present = 0;
  ++barrier.number;
}

inline void SyncAt(int id, int num_threads) {
  const NamedBarrier& barrier = Hopper().named_barriers[id];
  const uint64_t number = barrier.number;
  ArriveAt(id, num_threads);
  Block().WaitUntil([&] { return barrier.number != number; });
}

template <int kRegisters>
void ReleaseRegisters() {}
template <int kRegisters>
void ClaimRegisters() {}

}  // namespace intarsia::kernels
