// PackedMatrix::State: the packed weights as oneDNN knows them, and what it compiled for them.
//
// For packed_matrix_adapter.cc, which packs, and packed_matrix_product_adapter.cc, which
// multiplies.
//
// Thread safety: as said beside the members; RunGuarded may be called concurrently.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "base/aligned_array.h"
#include "base/status.h"
#include "kernels/packed_matrix.h"

namespace intarsia::kernels {

// Rows of a full tile: enough to hide the reading of weights.
inline constexpr int64_t kMatMulTileRows = 128;

// A compiled product of [num_rows, num_inputs] with `num_outputs` of the outputs.
struct CompiledProduct {
  dnnl::matmul primitive;
  dnnl::memory::desc x, weights, bias, y, scratchpad;
};

struct PackedMatrix::State {
  // Immutable after Pack.
  int64_t num_outputs = 0;
  int64_t num_inputs = 0;
  ComputeType type = ComputeType::kF32;
  dnnl::engine engine;
  dnnl::memory::desc weights_desc;  // {num_inputs, num_outputs}, as oneDNN wants it
  int64_t block_outputs = 1;  // outputs that weights_desc keeps together; slices are multiples
  AlignedArray<uint8_t> weights;
  std::vector<float> zeros;  // [num_outputs], the bias of a product without one

  mutable std::mutex mutex;
  // Guarded by mutex; an entry never moves or changes. By (rows, outputs).
  mutable std::map<std::pair<int64_t, int64_t>, CompiledProduct> products;

  dnnl::memory::data_type dnnl_type() const {
    return type == ComputeType::kBf16 ? dnnl::memory::data_type::bf16
                                      : dnnl::memory::data_type::f32;
  }
  int64_t element_bytes() const { return type == ComputeType::kBf16 ? 2 : 4; }

  // Where the outputs [begin, begin + count) lie in `weights`; begin is a multiple of
  // block_outputs, and so is count unless it reaches the end.
  dnnl::memory::desc SliceDesc(int64_t begin, int64_t count, int64_t* byte_offset) const {
    dnnl::memory::desc slice = weights_desc.submemory_desc({num_inputs, count}, {0, begin});
    *byte_offset = slice.data.offset0 * element_bytes();
    slice.data.offset0 = 0;
    return slice;
  }

  const CompiledProduct& ProductFor(int64_t num_rows, int64_t outputs_begin, int64_t outputs) const;
};

// Runs `body` with oneDNN on this thread alone, and turns what oneDNN and the allocator throw into
// a Status.
Status RunGuarded(const std::function<Status()>& body);

}  // namespace intarsia::kernels
