// Stands in for CUDA's header of this name, as far as the kernels of attention and of rows and
// their tests use it: device memory is host memory, threads are those of the EmulatedBlock that
// runs.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/kernels/emulation/emulated_block.h"

// ---- Language ----

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
// One block runs at a time.
#define __shared__ static

struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct dim3 {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

namespace intarsia::emulation {
struct Coordinate {
  uint32_t x;
  uint32_t y = 0;
};
inline uint32_t RowWidth() {
  return static_cast<uint32_t>(EmulatedBlock::Current().shape().row_blocks());
}
inline uint32_t BlockIndex() { return static_cast<uint32_t>(EmulatedBlock::Current().index()); }
inline uint32_t NumBlocks() {
  return static_cast<uint32_t>(EmulatedBlock::Current().shape().num_blocks);
}
}  // namespace intarsia::emulation

#define threadIdx                   \
  (intarsia::emulation::Coordinate{ \
      static_cast<uint32_t>(intarsia::emulation::EmulatedBlock::Current().thread())})
#define blockIdx                                                           \
  (intarsia::emulation::Coordinate{                                        \
      intarsia::emulation::BlockIndex() % intarsia::emulation::RowWidth(), \
      intarsia::emulation::BlockIndex() / intarsia::emulation::RowWidth()})
#define gridDim                        \
  (intarsia::emulation::Coordinate{    \
      intarsia::emulation::RowWidth(), \
      intarsia::emulation::NumBlocks() / intarsia::emulation::RowWidth()})

// Rounded on its own: the emulation is compiled without contraction.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }

inline void __syncthreads() {
  auto& block = intarsia::emulation::EmulatedBlock::Current();
  block.Meet(1, 0, block.shape().num_threads, block.thread(), nullptr, [](void* const*) {});
}

inline void __syncwarp() {
  auto& block = intarsia::emulation::EmulatedBlock::Current();
  block.Meet(2, block.thread() / 32, 32, block.thread() % 32, nullptr, [](void* const*) {});
}

namespace intarsia::emulation {

// Each lane of the warp gets the value that the lane `source(lane)` brings; its own if there is
// none.
template <typename Value, typename Source>
Value Exchange(Value value, const Source& source) {
  struct Lane {
    Value value;
    Value result;
    int32_t source;
  };
  auto& block = EmulatedBlock::Current();
  const int32_t own = block.thread() % 32;
  const int32_t from = source(own);
  Lane lane{value, value, from >= 0 && from < 32 ? from : own};
  block.Meet(3, block.thread() / 32, 32, own, &lane, [](void* const* lanes) {
    for (int i = 0; i < 32; ++i) {
      auto* const self = static_cast<Lane*>(lanes[i]);
      self->result = static_cast<const Lane*>(lanes[self->source])->value;
    }
  });
  return lane.result;
}

}  // namespace intarsia::emulation

template <typename Value>
Value __shfl_xor_sync(uint32_t, Value value, int32_t mask) {
  return intarsia::emulation::Exchange(value, [=](int32_t lane) { return lane ^ mask; });
}
template <typename Value>
Value __shfl_up_sync(uint32_t, Value value, int32_t step) {
  return intarsia::emulation::Exchange(value, [=](int32_t lane) { return lane - step; });
}
template <typename Value>
Value __shfl_down_sync(uint32_t, Value value, int32_t step) {
  return intarsia::emulation::Exchange(value, [=](int32_t lane) { return lane + step; });
}
template <typename Value>
Value __shfl_sync(uint32_t, Value value, int32_t source) {
  return intarsia::emulation::Exchange(value, [=](int32_t) { return source; });
}
inline int __any_sync(uint32_t mask, int predicate) {
  int any = predicate != 0 ? 1 : 0;
  for (int step = 16; step >= 1; step /= 2) any |= __shfl_xor_sync(mask, any, step);
  return any;
}

// Blocks run one after another and threads in turn, so nothing comes between.
template <typename Value>
Value atomicAdd(Value* target, Value value) {
  const Value before = *target;
  *target = before + value;
  return before;
}
template <typename Value>
Value atomicMax(Value* target, Value value) {
  const Value before = *target;
  if (before < value) *target = value;
  return before;
}
template <typename Value>
Value atomicMin(Value* target, Value value) {
  const Value before = *target;
  if (value < before) *target = value;
  return before;
}

inline int __popc(uint32_t bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return std::countr_zero(static_cast<uint32_t>(bits)) + 1; }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
using std::isnan;

// ---- Runtime ----

using cudaError_t = int;
enum : int { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyDefault };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount
};

inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaMalloc(void** memory, size_t num_bytes) {
  *memory = std::aligned_alloc(256, (num_bytes + 255) / 256 * 256);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* target, const void* source, size_t num_bytes, cudaMemcpyKind) {
  if (num_bytes > 0) std::memcpy(target, source, num_bytes);
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& device = intarsia::emulation::CurrentDevice();
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? device.capability / 10
           : attribute == cudaDevAttrComputeCapabilityMinor ? device.capability % 10
                                                            : device.num_multiprocessors;
  return cudaSuccess;
}
