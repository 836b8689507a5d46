// Stands in for the header of this name in kernels/: each instruction by its definition in the PTX
// ISA, asynchronous copies as late as they may be.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/convert.h"
#include "tests/kernels/emulation/emulated_block.h"

namespace intarsia::kernels {

inline emulation::EmulatedBlock& Block() { return emulation::EmulatedBlock::Current(); }
inline unsigned char* DynamicShared() { return Block().shared(); }
inline uint32_t SharedAddress(const void* pointer) { return Block().AddressOf(pointer); }

inline float LowBf16(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
inline float HighBf16(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000U); }

// Meets the other lanes of the warp with what this one has.
template <typename Lane, typename Act>
void MeetWarp(int32_t kind, Lane* lane, const Act& act) {
  Block().Meet(kind, Block().thread() / 32, 32, Block().thread() % 32, lane, act);
}

inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Lane {
    float* c;
    const uint32_t* a;
    uint32_t b[2];
  };
  Lane self{c, a, {b0, b1}};
  MeetWarp(4, &self, [](void* const* lanes) {
    float left[16][16];
    float right[16][8];
    for (int i = 0; i < 32; ++i) {
      const auto& lane = *static_cast<const Lane*>(lanes[i]);
      const int row = i / 4;
      const int column = i % 4 * 2;
      for (int j = 0; j < 4; ++j) {
        left[row + j % 2 * 8][column + j / 2 * 8] = LowBf16(lane.a[j]);
        left[row + j % 2 * 8][column + j / 2 * 8 + 1] = HighBf16(lane.a[j]);
      }
      for (int j = 0; j < 2; ++j) {
        right[column + j * 8][row] = LowBf16(lane.b[j]);
        right[column + j * 8 + 1][row] = HighBf16(lane.b[j]);
      }
    }
    for (int i = 0; i < 32; ++i) {
      auto& lane = *static_cast<Lane*>(lanes[i]);
      for (int j = 0; j < 4; ++j) {
        float sum = 0.0f;
        for (int k = 0; k < 16; ++k) {
          sum += left[i / 4 + j / 2 * 8][k] * right[k][i % 4 * 2 + j % 2];
        }
        lane.c[j] += sum;
      }
    }
  });
}

// A product of whole numbers whose fragments have kEach elements of the first dimension in a
// register: left_of(register, element) or right_of(..) gives one.
template <int kEach, typename Left, typename Right>
void MultiplyAddPacked(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                       const Left& left_of, const Right& right_of) {
  struct Lane {
    int* c;
    const uint32_t* a;
    uint32_t b[2];
  };
  Lane self{c, a, {b0, b1}};
  MeetWarp(6, &self, [&](void* const* lanes) {
    static thread_local int left[16][8 * kEach];
    static thread_local int right[8 * kEach][8];
    for (int i = 0; i < 32; ++i) {
      const auto& lane = *static_cast<const Lane*>(lanes[i]);
      for (int e = 0; e < kEach; ++e) {
        const int column = i % 4 * kEach + e;
        for (int j = 0; j < 4; ++j) {
          left[i / 4 + j % 2 * 8][column + j / 2 * 4 * kEach] = left_of(lane.a[j], e);
        }
        for (int j = 0; j < 2; ++j) right[column + j * 4 * kEach][i / 4] = right_of(lane.b[j], e);
      }
    }
    for (int i = 0; i < 32; ++i) {
      auto& lane = *static_cast<Lane*>(lanes[i]);
      for (int j = 0; j < 4; ++j) {
        for (int k = 0; k < 8 * kEach; ++k) {
          lane.c[j] += left[i / 4 + j / 2 * 8][k] * right[k][i % 4 * 2 + j % 2];
        }
      }
    }
  });
}

inline void MultiplyAddBytes(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MultiplyAddPacked<4>(
      c, a, b0, b1, [](uint32_t word, int i) { return static_cast<int>(word >> (8 * i) & 0xff); },
      [](uint32_t word, int i) { return int{static_cast<int8_t>(word >> (8 * i) & 0xff)}; });
}

inline void MultiplyAddBits(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const auto bit = [](uint32_t word, int i) { return static_cast<int>(word >> i & 1); };
  MultiplyAddPacked<32>(c, a, b0, b1, bit, bit);
}

inline uint4 LoadOnce16(const void* source) {
  INTARSIA_CHECK(reinterpret_cast<uintptr_t>(source) % 16 == 0);
  uint4 value;
  std::memcpy(&value, source, 16);
  return value;
}

template <bool kIsTransposed>
void LoadMatrixFragments(uint32_t (&r)[4], uint32_t shared_address) {
  struct Lane {
    uint32_t* r;
    uint32_t address;
  };
  INTARSIA_CHECK(shared_address % 16 == 0);
  Lane self{r, shared_address};
  MeetWarp(5, &self, [](void* const* lanes) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t rows[8][8];
      for (int i = 0; i < 8; ++i) {
        const uint32_t address = static_cast<const Lane*>(lanes[matrix * 8 + i])->address;
        std::memcpy(rows[i], Block().At(address, 16), 16);
      }
      for (int i = 0; i < 32; ++i) {
        const int row = i / 4;
        const int column = i % 4 * 2;
        const uint32_t low = kIsTransposed ? rows[column][row] : rows[row][column];
        const uint32_t high = kIsTransposed ? rows[column + 1][row] : rows[row][column + 1];
        static_cast<Lane*>(lanes[i])->r[matrix] = low | high << 16;
      }
    }
  });
}

inline void LoadMatrices(uint32_t (&r)[4], uint32_t shared_address) {
  LoadMatrixFragments<false>(r, shared_address);
}
inline void LoadMatricesTransposed(uint32_t (&r)[4], uint32_t shared_address) {
  LoadMatrixFragments<true>(r, shared_address);
}

inline void CopyAsync16(uint32_t shared_address, const void* source, int num_bytes) {
  INTARSIA_CHECK(reinterpret_cast<uintptr_t>(source) % 16 == 0 && shared_address % 16 == 0);
  unsigned char* const target = Block().At(shared_address, 16);
  Block().copies().back().push_back([=] {
    std::memset(target, 0, 16);
    std::memcpy(target, source, static_cast<size_t>(num_bytes));
  });
}

inline void CommitCopies() { Block().copies().emplace_back(); }

template <int kGroups>
void WaitForCopies() {
  auto& groups = Block().copies();
  while (groups.size() > size_t{kGroups} + 1) {
    for (const auto& copy : groups.front()) copy();
    groups.erase(groups.begin());
  }
}

inline uint32_t PackBf16(float low, float high) {
  return uint32_t{F32ToBf16(low)} | uint32_t{F32ToBf16(high)} << 16;
}
inline float Exp2Fast(float x) { return std::exp2(x); }
inline float ReciprocalFast(float x) { return 1.0f / x; }

}  // namespace intarsia::kernels
