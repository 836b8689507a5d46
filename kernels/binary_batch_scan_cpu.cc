// Bound: compute, num_words * 64 products of bytes for each code and query, 128 a cycle with
// AVX512_VNNI and 32 with AVX2. Design: the codes of a block are unpacked to levels 0 to 3, one
// byte each, and meet the queries in tiles of 8 codes x 32 queries (4 x 16 with AVX2), four
// dimensions a step; <x, q> is then twice the sum of level times q, less a multiple of q's own sum.
// A level is at most 3, so sums of two products fit the 16 bits that AVX2 adds them in.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/binary_batch_scan.h"

// AVX3_DL stands for the CPUs that have AVX512_VNNI.
#define HWY_WANT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/binary_batch_scan_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kCodes = kBinaryBlockCodes;
constexpr int64_t kGroup = kBatchGroupQueries;
// Groups of queries that meet a block at a time.
constexpr int64_t kTileGroups = 2;

// The levels of a block's codes [8, num_words * 64].
void Unpack(const BinaryBatchScanParams& params, int64_t block, uint8_t* levels) {
  const int64_t begin = block * params.num_words * kCodes;
  for (int64_t code = 0; code < kCodes; ++code) {
    for (int64_t w = 0; w < params.num_words; ++w) {
      const int64_t at = begin + w * kCodes + code;
      uint8_t* const target = levels + (code * params.num_words + w) * 64;
#if HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX3
      __m512i level = _mm512_maskz_set1_epi8(params.planes[0][at], 1);
      if (params.num_planes == 2) {
        level = _mm512_mask_add_epi8(level, params.planes[1][at], level, _mm512_set1_epi8(2));
      }
      _mm512_storeu_si512(target, level);
#else
      // Each byte of a word's bits becomes the lowest bits of eight bytes.
      const auto spread = [](uint64_t bits) {
        const uint64_t apart = ((bits & 0xFF) * 0x0101010101010101U) & 0x8040201008040201U;
        return ((apart + 0x7F7F7F7F7F7F7F7FU) >> 7) & 0x0101010101010101U;
      };
      for (int64_t i = 0; i < 8; ++i) {
        uint64_t level = spread(params.planes[0][at] >> (8 * i));
        if (params.num_planes == 2) level += 2 * spread(params.planes[1][at] >> (8 * i));
        std::memcpy(target + 8 * i, &level, sizeof(level));
      }
#endif
    }
  }
}

// sums[code, query] of levels times the whole numbers of `kGroups` groups of queries, the first of
// which begins at `queries`.
#if HWY_TARGET == HWY_AVX3_DL
template <int kGroups>
HWY_NOINLINE void Multiply(const uint8_t* levels, const int8_t* queries, int64_t dim,
                           int32_t* sums) {
  __m512i products[kCodes][kGroups];
#pragma GCC unroll 8
  for (int code = 0; code < kCodes; ++code) {
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      products[code][group] = _mm512_setzero_si512();
    }
  }
  for (int64_t i = 0; i < dim; i += 4) {
    __m512i query[kGroups];
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      query[group] = _mm512_loadu_si512(queries + (group * dim + i) * kGroup);
    }
#pragma GCC unroll 8
    for (int code = 0; code < kCodes; ++code) {
      int32_t word;
      std::memcpy(&word, levels + code * dim + i, sizeof(word));
      const __m512i level = _mm512_set1_epi32(word);
#pragma GCC unroll 2
      for (int group = 0; group < kGroups; ++group) {
        // Written out because Highway's target does not name AVX512_VNNI to the compiler.
        asm("vpdpbusd %2, %1, %0" : "+v"(products[code][group]) : "v"(level), "v"(query[group]));
      }
    }
  }
#pragma GCC unroll 8
  for (int code = 0; code < kCodes; ++code) {
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      _mm512_storeu_si512(sums + code * kTileGroups * kGroup + group * kGroup,
                          products[code][group]);
    }
  }
}
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
template <int kGroups>
HWY_NOINLINE void Multiply(const uint8_t* levels, const int8_t* queries, int64_t dim,
                           int32_t* sums) {
  constexpr int kTileCodes = 4;
  const __m256i ones = _mm256_set1_epi16(1);
  for (int group = 0; group < kGroups; ++group) {
    for (int first = 0; first < kCodes; first += kTileCodes) {
      __m256i products[kTileCodes][2];
#pragma GCC unroll 4
      for (int code = 0; code < kTileCodes; ++code) {
        products[code][0] = _mm256_setzero_si256();
        products[code][1] = _mm256_setzero_si256();
      }
      for (int64_t i = 0; i < dim; i += 4) {
        const auto* const at =
            reinterpret_cast<const __m256i*>(queries + (group * dim + i) * kGroup);
        const __m256i query[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
#pragma GCC unroll 4
        for (int code = 0; code < kTileCodes; ++code) {
          int32_t word;
          std::memcpy(&word, levels + (first + code) * dim + i, sizeof(word));
          const __m256i level = _mm256_set1_epi32(word);
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            const __m256i pairs = _mm256_maddubs_epi16(level, query[half]);
            products[code][half] =
                _mm256_add_epi32(products[code][half], _mm256_madd_epi16(pairs, ones));
          }
        }
      }
      for (int code = 0; code < kTileCodes; ++code) {
        int32_t* const target = sums + ((first + code) * kTileGroups + group) * kGroup;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), products[code][0]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + 8), products[code][1]);
      }
    }
  }
}
#else
// Any CPU: right, and as fast as the compiler makes it.
template <int kGroups>
void Multiply(const uint8_t* levels, const int8_t* queries, int64_t dim, int32_t* sums) {
  for (int64_t code = 0; code < kCodes; ++code) {
    for (int64_t group = 0; group < kGroups; ++group) {
      int32_t* const target = sums + (code * kTileGroups + group) * kGroup;
      std::fill_n(target, kGroup, 0);
      for (int64_t i = 0; i < dim; i += 4) {
        const uint8_t* const level = levels + code * dim + i;
        const int8_t* const at = queries + (group * dim + i) * kGroup;
        for (int64_t query = 0; query < kGroup; ++query) {
          for (int64_t j = 0; j < 4; ++j) target[query] += level[j] * at[4 * query + j];
        }
      }
    }
  }
}
#endif

// Scores and survivors of one code and one group, from the group's `sums` with the code.
HWY_INLINE void Score(const BinaryBatchScanParams& params, int64_t slot, int64_t group,
                      const int32_t* sums) {
  const hn::CappedTag<float, kGroup> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, params.scales[slot]);
  const auto offset = hn::Set(d, params.offsets[slot]);
  const auto error = hn::Set(d, params.errors[slot]);
  float* const scores = params.scores + (slot * params.num_groups + group) * kGroup;
  uint32_t survivors = 0;
  for (int64_t query = 0; query < kGroup; query += lanes) {
    const int64_t at = group * kGroup + query;
    const auto sum = hn::LoadU(di, sums + query);
    // x is twice the level, less 1 or 3.
    const auto once = hn::LoadU(di, params.sums + at);
    const auto excess = params.num_planes == 2 ? hn::Add(once, hn::Add(once, once)) : once;
    const auto product = hn::ConvertTo(d, hn::Sub(hn::Add(sum, sum), excess));
    const auto factor = hn::Mul(scale, hn::LoadU(d, params.steps + at));
    const auto shift = hn::Add(offset, hn::LoadU(d, params.bases + at));
    const auto score = hn::MulAdd(factor, product, shift);
    hn::StoreU(score, d, scores + query);
    const auto limit = hn::MulAdd(hn::LoadU(d, params.error_bounds + at), error, score);
    uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::Ge(limit, hn::LoadU(d, params.thresholds + at)), bits);
    survivors |= (uint32_t{bits[0]} | uint32_t{bits[1]} << 8) << query;
  }
  params.survivors[slot * params.num_groups + group] = static_cast<uint16_t>(survivors);
}

void BatchScanLoop(const BinaryBatchScanParams& params, uint8_t* levels) {
  const int64_t dim = params.num_words * 64;
  alignas(64) int32_t sums[kCodes * kTileGroups * kGroup];
  for (int64_t block = 0; block < params.num_blocks; ++block) {
    Unpack(params, block, levels);
    for (int64_t group = 0; group < params.num_groups; group += kTileGroups) {
      const int8_t* const queries = params.queries + group * dim * kGroup;
      const bool is_whole = group + kTileGroups <= params.num_groups;
      if (is_whole) {
        Multiply<kTileGroups>(levels, queries, dim, sums);
      } else {
        Multiply<1>(levels, queries, dim, sums);
      }
      for (int64_t code = 0; code < kCodes; ++code) {
        for (int64_t i = 0; i < (is_whole ? kTileGroups : 1); ++i) {
          Score(params, block * kCodes + code, group + i, sums + (code * kTileGroups + i) * kGroup);
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(BatchScanLoop);

Status BinaryBatchScan(const BinaryBatchScanParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryBatchScan(params));
  if (params.num_blocks == 0 || params.num_groups == 0) return Status::Ok();
  const int64_t dim = params.num_words * 64;
  std::vector<uint8_t> levels(static_cast<size_t>(kBinaryBlockCodes * dim));
  HWY_DYNAMIC_DISPATCH(BatchScanLoop)(params, levels.data());
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
