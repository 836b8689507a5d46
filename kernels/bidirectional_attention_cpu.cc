// Bound: compute; 4 * rows * keys * head_dim FLOP a head at the peak of f32.
// Design: per text and head, k is transposed and v packed once; then four rows at a time against
// vectors of keys, so that each load of k or v serves four fused multiply-adds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bidirectional_attention_cpu.cc"
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/bidirectional_attention.h"
#include "kernels/bidirectional_attention_check.h"
#include "kernels/convert.h"
#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

constexpr int64_t kTileRows = 4;

int64_t PaddedTo(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The memory of one thread, for one text and head. Paddings hold zeros, but -infinity behind the
// scores, so that vectors need no remainders.
struct Scratch {
  int64_t keys_padded;
  int64_t dim_padded;
  float* k;       // [head_dim, keys_padded]
  float* v;       // [num_keys, dim_padded]
  float* q;       // [head_dim, kTileRows], scaled
  float* scores;  // [kTileRows, keys_padded]
  float* output;  // [kTileRows, dim_padded]

  Scratch(int64_t num_keys, int64_t head_dim, float* memory)
      : keys_padded(PaddedTo(num_keys, 2 * LanesF32())),
        dim_padded(PaddedTo(head_dim, 2 * LanesF32())),
        k(memory),
        v(k + head_dim * keys_padded),
        q(v + num_keys * dim_padded),
        scores(q + head_dim * kTileRows),
        output(scores + kTileRows * keys_padded) {}
};

int64_t WorkspaceFloats(int64_t num_keys, int64_t head_dim) {
  const int64_t keys_padded = PaddedTo(num_keys, 2 * LanesF32());
  const int64_t dim_padded = PaddedTo(head_dim, 2 * LanesF32());
  return head_dim * (keys_padded + kTileRows) + num_keys * dim_padded +
         kTileRows * (keys_padded + dim_padded);
}

// scratch.k and scratch.v of the `num_keys` rows that begin at `k` and `v`, `stride` apart.
void PackKeysAndValues(const float* k, int64_t stride, int64_t num_keys, int64_t head_dim,
                       const Scratch& scratch) {
  const float* const v = k + stride / 3;
  for (int64_t i = 0; i < head_dim; ++i) {
    float* const target = scratch.k + i * scratch.keys_padded;
    for (int64_t key = 0; key < num_keys; ++key) target[key] = k[key * stride + i];
    std::fill(target + num_keys, target + scratch.keys_padded, 0.0f);
  }
  for (int64_t key = 0; key < num_keys; ++key) {
    float* const target = scratch.v + key * scratch.dim_padded;
    std::copy(v + key * stride, v + key * stride + head_dim, target);
    std::fill(target + head_dim, target + scratch.dim_padded, 0.0f);
  }
}

// A product of kTileRows rows with a matrix: target[row, column] = sum over i of
// left[i * left_step + row * left_row_step] * right[i * num_columns + column].
struct TileProduct {
  const float* left;
  int64_t left_step;
  int64_t left_row_step;
  const float* right;  // [depth, num_columns]
  int64_t depth;
  int64_t num_columns;  // a multiple of two vectors
};

void MultiplyTile(const TileProduct& product, float* HWY_RESTRICT target) {
  const int64_t num_columns = product.num_columns;
  const int64_t left_row_step = product.left_row_step;
  const F32 d;
  const int64_t lanes = LanesF32();
  for (int64_t column = 0; column < num_columns; column += 2 * lanes) {
    auto a0 = hn::Zero(d), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
    const float* HWY_RESTRICT x = product.left;
    const float* HWY_RESTRICT y = product.right + column;
    for (int64_t i = 0; i < product.depth; ++i) {
      const auto y0 = hn::LoadU(d, y);
      const auto y1 = hn::LoadU(d, y + lanes);
      const auto xa = hn::Set(d, x[0]);
      const auto xb = hn::Set(d, x[left_row_step]);
      const auto xc = hn::Set(d, x[2 * left_row_step]);
      const auto xe = hn::Set(d, x[3 * left_row_step]);
      a0 = hn::MulAdd(xa, y0, a0);
      a1 = hn::MulAdd(xa, y1, a1);
      b0 = hn::MulAdd(xb, y0, b0);
      b1 = hn::MulAdd(xb, y1, b1);
      c0 = hn::MulAdd(xc, y0, c0);
      c1 = hn::MulAdd(xc, y1, c1);
      e0 = hn::MulAdd(xe, y0, e0);
      e1 = hn::MulAdd(xe, y1, e1);
      x += product.left_step;
      y += num_columns;
    }
    float* const rows = target + column;
    hn::StoreU(a0, d, rows);
    hn::StoreU(a1, d, rows + lanes);
    hn::StoreU(b0, d, rows + num_columns);
    hn::StoreU(b1, d, rows + num_columns + lanes);
    hn::StoreU(c0, d, rows + 2 * num_columns);
    hn::StoreU(c1, d, rows + 2 * num_columns + lanes);
    hn::StoreU(e0, d, rows + 3 * num_columns);
    hn::StoreU(e1, d, rows + 3 * num_columns + lanes);
  }
}

// Replaces scores by exp(score - largest score) and returns one over their sum.
float ExponentiateRow(int64_t num_padded, float* HWY_RESTRICT scores) {
  const F32 d;
  const int64_t lanes = LanesF32();
  auto largest = hn::LoadU(d, scores);
  for (int64_t i = lanes; i < num_padded; i += lanes) {
    largest = hn::Max(largest, hn::LoadU(d, scores + i));
  }
  largest = hn::MaxOfLanes(d, largest);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < num_padded; i += lanes) {
    const auto weight = Exp(d, hn::Sub(hn::LoadU(d, scores + i), largest));
    hn::StoreU(weight, d, scores + i);
    sum = hn::Add(sum, weight);
  }
  return 1.0f / hn::GetLane(hn::SumOfLanes(d, sum));
}

void WriteRow(const float* output, int64_t offset, const BidirectionalAttentionParams& params) {
  if (params.y != nullptr) std::copy(output, output + params.head_dim, params.y + offset);
  if (params.y_bf16 != nullptr) F32ToBf16(output, params.head_dim, params.y_bf16 + offset);
}

// Attention of text `text` in head `head`.
void AttendText(const BidirectionalAttentionParams& params, int64_t text, int64_t head,
                float* memory) {
  const F32 d;
  const int64_t dim = params.head_dim;
  const int64_t width = params.num_heads * dim;
  const int64_t stride = 3 * width;
  const int64_t begin = params.row_begins[text];
  const int64_t num_keys = params.row_begins[text + 1] - begin;
  if (num_keys == 0) return;
  const Scratch scratch(num_keys, dim, memory);
  const float* const q = params.qkv + begin * stride + head * dim;
  PackKeysAndValues(q + width, stride, num_keys, dim, scratch);
  for (int64_t row = 0; row < num_keys; row += kTileRows) {
    const int64_t num_rows = std::min(kTileRows, num_keys - row);
    for (int64_t i = 0; i < dim; ++i) {
      for (int64_t r = 0; r < kTileRows; ++r) {
        scratch.q[i * kTileRows + r] = r < num_rows ? q[(row + r) * stride + i] * params.scale : 0;
      }
    }
    MultiplyTile({scratch.q, kTileRows, 1, scratch.k, dim, scratch.keys_padded}, scratch.scores);
    float inverse_sums[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) {
      float* const scores = scratch.scores + r * scratch.keys_padded;
      std::fill(scores + num_keys, scores + scratch.keys_padded,
                -std::numeric_limits<float>::infinity());
      inverse_sums[r] = ExponentiateRow(scratch.keys_padded, scores);
    }
    MultiplyTile({scratch.scores, 1, scratch.keys_padded, scratch.v, num_keys, scratch.dim_padded},
                 scratch.output);
    for (int64_t r = 0; r < num_rows; ++r) {
      float* const output = scratch.output + r * scratch.dim_padded;
      const auto inverse_sum = hn::Set(d, inverse_sums[r]);
      for (int64_t i = 0; i < scratch.dim_padded; i += LanesF32()) {
        hn::StoreU(hn::Mul(hn::LoadU(d, output + i), inverse_sum), d, output + i);
      }
      WriteRow(output, (begin + row + r) * width + head * dim, params);
    }
  }
}

}  // namespace
}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(WorkspaceFloats);
HWY_EXPORT(AttendText);

Status BidirectionalAttention(const BidirectionalAttentionParams& params, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckBidirectionalAttention(params));
  if (params.num_texts == 0) return Status::Ok();
  if (pool == nullptr) {
    return {StatusCode::kInvalidArgument, "bidirectional attention: no thread pool"};
  }
  int64_t num_keys_max = 0;
  for (int64_t text = 0; text < params.num_texts; ++text) {
    num_keys_max = std::max(num_keys_max, params.row_begins[text + 1] - params.row_begins[text]);
  }
  constexpr int64_t kAlignment = 64;
  const int64_t worker_bytes =
      (HWY_DYNAMIC_DISPATCH(WorkspaceFloats)(num_keys_max, params.head_dim) * 4 + kAlignment - 1) /
      kAlignment * kAlignment;
  const std::unique_ptr<void, decltype(&std::free)> memory(
      std::aligned_alloc(kAlignment, static_cast<size_t>(worker_bytes * pool->num_threads())),
      &std::free);
  if (memory == nullptr) {
    return {StatusCode::kResourceExhausted,
            "no memory for attention: bytes=" + std::to_string(worker_bytes)};
  }
  pool->ParallelFor(params.num_texts * params.num_heads, [&](int64_t item, int worker) {
    HWY_DYNAMIC_DISPATCH(AttendText)
    (params, item / params.num_heads, item % params.num_heads,
     static_cast<float*>(memory.get()) + worker * worker_bytes / 4);
  });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
