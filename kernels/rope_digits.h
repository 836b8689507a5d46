// RopeDigits: the rotation of any position as a product of two tabulated ones, for kernels that
// rotate every token of a prompt in every layer.
//
// A table of all positions is larger than what it rotates: 512 bytes a token for 64 pairs. Cut into
// base-256 digits the angles fit into a device's second-level cache, and the product of the two
// rotations costs four multiply-adds a pair. Both tables are rounded to f32 from double, so a
// cosine is within three roundings of the exact one.
//
// Thread safety: FillRopeDigits may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/rope.h"

namespace intarsia::kernels {

inline constexpr int64_t kRopeDigitValues = 256;

// Pairs of cosine and sine, interleaved. All pointers are of the side that reads them, 16-byte
// aligned.
struct RopeDigits {
  const float* low = nullptr;   // [256, rotary_dim / 2, 2]: position % 256
  const float* high = nullptr;  // [num_high, rotary_dim / 2, 2]: position / 256
  int64_t num_high = 0;         // positions below 256 * num_high can be rotated
  int32_t rotary_dim = 0;       // even; the elements of a head beyond it are not rotated
  RopePairing pairing = RopePairing::kHalfSplit;
};

// The numbers of both tables in one array, low digits first, for positions below `num_positions`.
// The high digits begin at element 256 * rotary_dim.
// Errors: kInvalidArgument for a count outside [1, RopeTable::kPositionsMax].
Result<std::vector<float>> FillRopeDigits(const RopeTable& table, int64_t num_positions);

// High digits that `num_positions` need.
constexpr int64_t NumHighRopeDigits(int64_t num_positions) {
  return (num_positions + kRopeDigitValues - 1) / kRopeDigitValues;
}

}  // namespace intarsia::kernels
