// Propagation: what recomputed tokens learn about their shift, passed on to the tokens that keep
// their cache.
//
// A new context shifts a cached token's K and V, and the shift D(t) = new - cached is smooth along
// its chunk. The recomputed rows measure it, so every other token gets the mean of a Gaussian
// process given those measurements:
//   D(t) = k_t^T (Kss + noise I)^-1 D_s
// with the kernel a exp(-d / t1) + b exp(-d / t2) + c inside a chunk, plus c0 everywhere. The
// weights depend on positions alone, so one solve serves all layers and heads. Because c0 is the
// only term across chunks, Kss + noise I is block-diagonal plus c0 1 1^T, and by the
// Sherman-Morrison formula a token's weights reach its own chunk's rows and one vector for the
// rest:
//   D(t) = k_t^T B^-1 D_chunk + gamma (1 - k_t^T u) g,   u = B^-1 1,   g = sum over all rows u_s
//   D_s gamma = c0 / (1 + c0 1^T u)
// The causal form is the exact mean given only the rows s <= t: prefixes of B share one Cholesky
// factor, and g and 1^T u run over earlier chunks and the own prefix.
// Source: this project; docs/decisions/0002-propagated-recompute.md.
//
// Thread safety: immutable after Create.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/prompt.h"

namespace intarsia::engine {

enum class PropagationMode : uint8_t { kOff, kTwoSided, kCausal };

// The kernel of one of K and V. Lengths in tokens.
struct PropagationKernel {
  double a = 0.0;
  double t1 = 1.0;
  double b = 0.0;
  double t2 = 1.0;
  double c = 0.0;      // everywhere in the chunk
  double c0 = 0.0;     // everywhere
  double noise = 1.0;  // > 0
};

// Fitted on six MuSiQue questions; a plateau (40 random draws lie within .01 KL).
inline constexpr PropagationKernel kKeyKernel = {
    .a = .15, .t1 = 10, .b = .15, .t2 = 100, .c = .25, .c0 = .15, .noise = .3};
inline constexpr PropagationKernel kValueKernel = {
    .a = .2, .t1 = 4, .b = .1, .t2 = 30, .c = .12, .c0 = .08, .noise = .5};

// The kernel inside a chunk at the distances 0, 1, ... `size` - 1, without c0 and noise.
std::vector<double> TabulateKernel(const PropagationKernel& kernel, int64_t size);

// Weights of one of K and V for one chunk with n tokens and m recomputed ones.
struct PropagationWeights {
  // [n, m + 1]: the last column multiplies g.
  std::vector<float> weights;
  // [m]: the chunk's part of g is sum over s of u[s] D_s.
  std::vector<float> u;
};

struct ChunkPropagation {
  size_t segment = 0;         // index into Prompt::segments()
  std::vector<int32_t> rows;  // positions of its recomputed tokens, ascending; may be empty
  PropagationWeights key;
  PropagationWeights value;
};

class Propagation {
 public:
  // `rows` are the recomputed candidates of `prompt`, ascending. REQUIRES: mode is not kOff.
  // Errors: kInternal if a system cannot be solved, which a noise > 0 excludes.
  static Result<Propagation> Create(const Prompt& prompt, std::span<const int32_t> rows,
                                    PropagationMode mode, ThreadPool* pool);

  PropagationMode mode() const { return mode_; }
  // One entry for each cached segment that is not exact, in prompt order.
  std::span<const ChunkPropagation> chunks() const { return chunks_; }

 private:
  PropagationMode mode_ = PropagationMode::kOff;
  std::vector<ChunkPropagation> chunks_;
};

}  // namespace intarsia::engine
