// RowDesign: which tokens to compute again, when what they learn is propagated to the others.
//
// Propagation treats the shift of a cached token as a Gaussian process along its chunk, so a token
// near a recomputed one needs no row of its own. This places rows as an experimental design does:
// one after another, each where it takes away the most of
//   sum over tokens t of weight[t] * Var(shift[t] | rows so far)
// with the keys' kernel of propagation. A recomputed token's variance is zero; another's is what
// the process leaves of the smooth part, and all of the part that is not smooth. Weights are how
// much the answer looks at a token, so rows go where the answer looks and where nothing is known
// yet, and no evenly spaced probes are needed.
//
// The term of the kernel that holds across chunks is left out, so each chunk has its own sequence
// of picks, and the best picks of all sequences are taken.
// Source: this project; greedy variance reduction as in Krause, Singh and Guestrin, Near-Optimal
// Sensor Placements in Gaussian Processes, JMLR 2008, section 3, with the A-optimality criterion.
//
// Thread safety: concurrent calls are safe and share the pool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"

namespace intarsia::engine {

struct RowDesignInput {
  // Ascending positions. A gap, as between two chunks with an exact one between them, ends a chunk
  // like an entry of `chunk_begins` does.
  std::span<const int32_t> candidates;
  std::span<const int32_t> chunk_begins;  // positions at which a chunk begins, ascending
  std::span<const float> weights;         // >= 0, by position
  std::span<const int32_t> taken;         // candidates that are rows anyway, ascending
  int64_t budget = 0;                     // rows to pick beside them
  ThreadPool* pool = nullptr;
};

// `budget` of the candidates that are not taken, ascending. Takes O(n^2) work a pick for a chunk of
// n tokens; longer chunks than kDesignTokensMax are cut. Errors: kInvalidArgument for a budget out
// of range or a weight that is negative or not finite; kResourceExhausted if the covariances, 4 n^2
// bytes a chunk, do not fit.
Result<std::vector<int32_t>> DesignRows(const RowDesignInput& input);

inline constexpr int64_t kDesignTokensMax = 1024;

}  // namespace intarsia::engine
