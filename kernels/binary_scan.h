// BinaryScan: estimated inner products of one query with codes of one or two bits a dimension.
//
// A code stands for the vector x_i = sum over its planes j of 2^j * t_ji, where t is 1 for a set
// bit and -1 for a clear one: {-1, 1} with one plane, {-3, -1, 1, 3} with two. A query is kept
// likewise in P planes, one or four, as odd integers from 1 - 2^P to 2^P - 1 times `half_step`. The
// product of two planes of signs is num_bits - 2 * popcount(a ^ b), so <x, q> needs XOR and
// popcount only:
//   product = sum over j of 2^j * ((2^P - 1) * num_bits - 2 * sum over p of 2^p * popcount(b_j ^
//   q_p)) score   = scale * (half_step * product) + offset + base
//
// With one plane of each this is the Hamming distance. Beside the scores the scan says which codes
// could still matter, so that the others are never looked at again:
//   survivor = score + error_bound * error >= threshold
//
// Codes lie in blocks of 8, word by word: word w of code r of block b is
// plane[(b * num_words + w) * 8 + r], so a vector holds one word of several codes and nothing is
// ever added across lanes. Codes behind the last one of a block are scored like any other.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

inline constexpr int64_t kBinaryBlockCodes = 8;
inline constexpr int64_t kBinaryQueryPlanesMax = 4;

// Blocks of codes as they lie in memory, with the factors of each code.
struct BinaryCodeBlocks {
  const uint64_t* planes[2] = {nullptr, nullptr};  // [num_blocks, num_words, 8], lowest plane first
  int64_t num_planes = 1;                          // 1 or 2
  int64_t num_words = 0;                           // num_bits / 64, in [1, 1024]
  int64_t num_blocks = 0;
  const float* scales = nullptr;   // [num_blocks, 8]
  const float* offsets = nullptr;  // [num_blocks, 8]
  const float* errors = nullptr;   // [num_blocks, 8]
};

struct BinaryScanParams : BinaryCodeBlocks {
  const uint64_t* query_planes = nullptr;  // [num_query_planes, num_words], lowest first
  int64_t num_query_planes = 4;            // 1 or 4
  float half_step = 0.0F;
  float base = 0.0F;
  float* scores = nullptr;  // [num_blocks, 8], not aliasing the inputs

  // Wanted only with `survivors`, and so are `errors`, which may else be null.
  float error_bound = 0.0F;
  float threshold = 0.0F;
  uint8_t* survivors = nullptr;  // [num_blocks], a bit for each code, the lowest first; may be null
};

// What both forms refuse: kInvalidArgument for a null pointer or a size out of range.
Status CheckBinaryScan(const BinaryScanParams& params);

// Errors: those of CheckBinaryScan().
Status BinaryScan(const BinaryScanParams& params);

// The definition: sums over single bits, double arithmetic for the score.
Status BinaryScanReference(const BinaryScanParams& params);

}  // namespace intarsia::kernels
