// Bound: memory for one query, num_words * 64 bytes a block and plane; without a popcount of words
// (before AVX-512 VPOPCNTDQ) compute. Design: the query words are broadcast to all codes of a
// block, and later blocks are prefetched, because four planes take about as long as their memory.
// With a popcount of words, one sum for each query plane; without, bytes are counted by table, and
// the weighted sum over the planes, at most 8 * 15, fits a byte, so that the expensive sum over
// bytes is done once a word.
#define HWY_WANT_AVX3_DL  // Not among the default targets; brings the popcount of words.

#include "kernels/binary_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/binary_scan_cpu.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// How far ahead of the sums memory is asked for, in words of one code.
constexpr int64_t kPrefetchWords = 64;

using D64 = hn::CappedTag<uint64_t, 8>;
using V64 = hn::Vec<D64>;

// Sum over p of 2^p * popcount(code ^ query_p) for the codes in the lanes of a block.
template <int kQueryPlanes>
HWY_INLINE V64 WeightedDistance(const uint64_t* HWY_RESTRICT codes,
                                const uint64_t* HWY_RESTRICT query, int64_t num_words) {
  const D64 d;
#if HWY_TARGET <= HWY_AVX3_DL || HWY_TARGET == HWY_SCALAR
  const auto count = [&](V64 code, int64_t word, int64_t plane) HWY_ATTR {
    return hn::PopulationCount(hn::Xor(code, hn::Set(d, query[plane * num_words + word])));
  };
  V64 sum0 = hn::Zero(d);
  V64 sum1 = hn::Zero(d);
  if constexpr (kQueryPlanes == 1) {
    int64_t w = 0;
    for (; w + 2 <= num_words; w += 2) {
      const uint64_t* at = codes + w * kBinaryBlockCodes;
      sum0 = hn::Add(sum0, count(hn::LoadU(d, at), w, 0));
      sum1 = hn::Add(sum1, count(hn::LoadU(d, at + kBinaryBlockCodes), w + 1, 0));
    }
    if (w < num_words) {
      sum0 = hn::Add(sum0, count(hn::LoadU(d, codes + w * kBinaryBlockCodes), w, 0));
    }
    return hn::Add(sum0, sum1);
  }
  V64 sum2 = hn::Zero(d);
  V64 sum3 = hn::Zero(d);
  for (int64_t w = 0; w < num_words; ++w) {
    const V64 code = hn::LoadU(d, codes + w * kBinaryBlockCodes);
    sum0 = hn::Add(sum0, count(code, w, 0));
    sum1 = hn::Add(sum1, count(code, w, 1));
    sum2 = hn::Add(sum2, count(code, w, 2));
    sum3 = hn::Add(sum3, count(code, w, 3));
  }
  const V64 low = hn::Add(sum0, hn::ShiftLeft<1>(sum1));
  const V64 high = hn::Add(sum2, hn::ShiftLeft<1>(sum3));
  return hn::Add(low, hn::ShiftLeft<2>(high));
#else
  const hn::Repartition<uint8_t, D64> d8;
  V64 sum = hn::Zero(d);
  for (int64_t w = 0; w < num_words; ++w) {
    const V64 code = hn::LoadU(d, codes + w * kBinaryBlockCodes);
    const uint64_t* words = query + w;
    const auto count = [&](int64_t plane) HWY_ATTR {
      const V64 differing = hn::Xor(code, hn::Set(d, words[plane * num_words]));
      return hn::PopulationCount(hn::BitCast(d8, differing));
    };
    auto weighted = count(kQueryPlanes - 1);
    for (int64_t plane = kQueryPlanes - 2; plane >= 0; --plane) {
      weighted = hn::Add(hn::Add(weighted, weighted), count(plane));
    }
    sum = hn::Add(sum, hn::SumsOf8(weighted));
  }
  return sum;
#endif
}

// The words that the next blocks begin with. The hardware follows a stream only within a page, and
// the sums of one block take as long as its words take to come.
HWY_INLINE void PrefetchBlock(const BinaryScanParams& params, int64_t block) {
  constexpr int64_t kWordsPerLine = 8;
  const int64_t begin = block * params.num_words * kBinaryBlockCodes;
  for (int64_t plane = 0; plane < params.num_planes; ++plane) {
    for (int64_t w = 0; w < params.num_words * kBinaryBlockCodes; w += kWordsPerLine) {
      hwy::Prefetch(params.planes[plane] + begin + w);
    }
  }
}

template <int kPlanes, int kQueryPlanes>
HWY_INLINE void ScanBlocks(const BinaryScanParams& params) {
  const D64 d;
  const hn::Rebind<uint32_t, D64> du32;
  const hn::Rebind<int32_t, D64> di32;
  const hn::Rebind<float, D64> df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  // The largest level of a query, the bits of a word, and 3, the largest of two planes.
  const auto largest = static_cast<int32_t>(int64_t{((1 << kQueryPlanes) - 1) * 64} *
                                            params.num_words * (kPlanes == 2 ? 3 : 1));
  const int64_t ahead = HWY_MAX(int64_t{1}, kPrefetchWords / (params.num_words * kPlanes));
  for (int64_t block = 0; block < params.num_blocks; ++block) {
    if (block + ahead < params.num_blocks) PrefetchBlock(params, block + ahead);
    const int64_t word_begin = block * params.num_words * kBinaryBlockCodes;
    uint32_t survivors = 0;
    for (int64_t r = 0; r < kBinaryBlockCodes; r += lanes) {
      V64 distance = WeightedDistance<kQueryPlanes>(params.planes[0] + word_begin + r,
                                                    params.query_planes, params.num_words);
      if constexpr (kPlanes == 2) {
        const V64 upper = WeightedDistance<kQueryPlanes>(params.planes[1] + word_begin + r,
                                                         params.query_planes, params.num_words);
        distance = hn::Add(distance, hn::ShiftLeft<1>(upper));
      }
      const auto twice = hn::BitCast(di32, hn::TruncateTo(du32, hn::ShiftLeft<1>(distance)));
      const auto product = hn::ConvertTo(df, hn::Sub(hn::Set(di32, largest), twice));
      const int64_t slot = block * kBinaryBlockCodes + r;
      const auto scale =
          hn::Mul(hn::LoadU(df, params.scales + slot), hn::Set(df, params.half_step));
      const auto shift = hn::Add(hn::LoadU(df, params.offsets + slot), hn::Set(df, params.base));
      const auto score = hn::MulAdd(scale, product, shift);
      hn::StoreU(score, df, params.scores + slot);
      if (params.survivors == nullptr) continue;
      const auto limit =
          hn::MulAdd(hn::Set(df, params.error_bound), hn::LoadU(df, params.errors + slot), score);
      uint8_t bits[8] = {};
      hn::StoreMaskBits(df, hn::Ge(limit, hn::Set(df, params.threshold)), bits);
      survivors |= uint32_t{bits[0]} << r;
    }
    if (params.survivors != nullptr) params.survivors[block] = static_cast<uint8_t>(survivors);
  }
}

void BinaryScanLoop(const BinaryScanParams& params) {
  if (params.num_planes == 1 && params.num_query_planes == 1) {
    ScanBlocks<1, 1>(params);
  } else if (params.num_planes == 1) {
    ScanBlocks<1, 4>(params);
  } else if (params.num_query_planes == 1) {
    ScanBlocks<2, 1>(params);
  } else {
    ScanBlocks<2, 4>(params);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(BinaryScanLoop);

Status BinaryScan(const BinaryScanParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryScan(params));
  if (params.num_blocks == 0) return Status::Ok();
  HWY_DYNAMIC_DISPATCH(BinaryScanLoop)(params);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
