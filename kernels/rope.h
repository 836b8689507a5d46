// RopeTable: the angles of rotary position embedding; ApplyRope: the rotation.
//
// Keys are cached before rotation, so a fused prompt rotates every placed token of every layer. The
// cosines and sines of a request's positions are therefore computed once, [num_tokens,
// rotary_dim / 2] each, and used by all layers and heads:
//   y[a] = x[a] cos - x[b] sin,   y[b] = x[b] cos + x[a] sin   for each pair (a, b)
// with the angle position * base^(-2 i / rotary_dim) for pair i, after scaling. Angles are reduced
// in double, so a cosine is within a rounding of the exact one at any position. No call of sine or
// cosine is made per position: the position is cut into base-256 digits, whose rotations are
// tabulated and multiplied.
//
// Thread safety: a RopeTable is immutable; ApplyRope may be called concurrently on distinct
// outputs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

// Which two elements of a head are rotated together: i and i + rotary_dim / 2 (GPT-NeoX, Qwen,
// Gemma), or 2 i and 2 i + 1 (llama as GGUF files store it).
enum class RopePairing : uint8_t { kHalfSplit = 0, kInterleaved = 1 };

enum class RopeScaling : uint8_t {
  kNone = 0,
  kLinear = 1,  // frequencies divided by `factor`
  kLlama3 = 2,  // low frequencies divided by `factor`, high ones kept, smooth between
};

struct RopeOptions {
  int32_t rotary_dim = 0;  // even, >= 2; the elements of a head beyond it are not rotated
  double base = 10'000.0;  // > 0, finite
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;            // > 0, finite
  double low_freq_factor = 1.0;   // kLlama3: > 0 and below high_freq_factor
  double high_freq_factor = 4.0;  // kLlama3
  int64_t original_context = 0;   // kLlama3: > 0
  // [rotary_dim / 2], each > 0: divisors of the frequencies, the tensor `rope_freqs` of a GGUF
  // file. Empty: ones. Applied in addition to `scaling`.
  std::vector<float> frequency_divisors = {};
};

class RopeTable {
 public:
  static constexpr int32_t kPositionsMax = 1 << 24;

  // Errors: kInvalidArgument for an option out of its range.
  static Result<std::unique_ptr<RopeTable>> Create(const RopeOptions& options);

  int32_t rotary_dim() const { return 2 * num_pairs_; }
  // Radians per position of each pair, [rotary_dim / 2].
  const std::vector<double>& frequencies() const { return frequencies_; }

  // Writes the cosines and sines of `positions` [num_tokens] to `cosines` and `sines`, each
  // [num_tokens, rotary_dim / 2], on the calling thread.
  // Errors: kInvalidArgument for a position outside [0, kPositionsMax); the outputs are then
  // partly written.
  Status Fill(const int32_t* positions, int64_t num_tokens, float* cosines, float* sines) const;

 private:
  explicit RopeTable(std::vector<double> frequencies);

  // Immutable after construction.
  int32_t num_pairs_ = 0;
  std::vector<double> frequencies_;
  std::vector<double> cosines_;  // [3 digits, 256, num_pairs]
  std::vector<double> sines_;
};

// Rows begin `*_stride` elements apart; 0 means num_heads * head_dim, that is no gap. Any
// alignment. `y` may be `x` itself, with the same stride; else nothing overlaps.
struct ApplyRopeParams {
  const float* x = nullptr;  // [num_tokens, num_heads, head_dim]
  int64_t x_stride = 0;
  const float* cosines = nullptr;  // [num_tokens, rotary_dim / 2], as RopeTable::Fill gives them
  const float* sines = nullptr;
  float* y = nullptr;  // [num_tokens, num_heads, head_dim]
  int64_t y_stride = 0;
  int64_t num_tokens = 0;  // 0 does nothing
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  int32_t rotary_dim = 0;  // even, in [2, head_dim]; the elements beyond it are copied
  RopePairing pairing = RopePairing::kHalfSplit;
};

// Uses the threads of `pool`, or the calling thread alone if it is null.
// Errors: kInvalidArgument for a null pointer, a size out of range or a stride that is too short.
Status ApplyRope(const ApplyRopeParams& params, ThreadPool* pool);

// The errors of both forms.
Status CheckApplyRope(const ApplyRopeParams& params);

// The definition: one thread, in double.
Status ApplyRopeReference(const ApplyRopeParams& params);

}  // namespace intarsia::kernels
