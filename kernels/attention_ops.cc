// Bound: compute, 4 * head_dim flops a score. Design: both products run through one register tile
// of 6 queries x 4 vectors (AVX-512; 4 x 2 elsewhere) whose sums never leave the registers: S = Q
// K^T has a key in each lane, O += P V an element of the head, and the query side is broadcast.
#include "kernels/attention_ops.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/convert.h"

// AVX3_DL stands for the CPUs that may have AVX512_BF16, which Highway does not know as a target.
#define HWY_WANT_AVX3_DL
// The register tiles below are arrays of vectors, and these have no size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_ops.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kKvBlockTokens>;
using DU = hn::RebindToUnsigned<D>;
using DI = hn::RebindToSigned<D>;
using V = hn::Vec<D>;
using VU = hn::Vec<DU>;

constexpr int64_t kLanes = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;
// The register tile. Where a vector holds fewer than 16 keys, its columns stay within one block.
constexpr int kTileQueries = kLanes == 16 ? 6 : 4;
constexpr int kTileVectors = kLanes == 16 ? 4 : 2;
constexpr float kLog2E = 1.44269504088896340736F;

// ---- Operands: how a word (4 bytes) of the packed keys and values meets the query side ----

// f32 by f32: a word is one element.
struct F32Operand {
  using Element = float;
  static constexpr int kElementsPerWord = 1;
  struct Query {
    V x;
  };
  struct Keys {
    V x;
  };
  static HWY_INLINE Query Broadcast(const Element* x) { return {hn::Set(D(), *x)}; }
  static HWY_INLINE Keys Load(const uint32_t* words) {
    return {hn::LoadU(D(), reinterpret_cast<const float*>(words))};
  }
  static HWY_INLINE V Multiply(V sum, const Query& query, const Keys& keys) {
    return hn::MulAdd(query.x, keys.x, sum);
  }
};

// bf16 pairs widened to f32; the query side is f32 as well.
struct WideOperand {
  using Element = float;
  static constexpr int kElementsPerWord = 2;
  struct Query {
    V even;
    V odd;
  };
  struct Keys {
    V even;
    V odd;
  };
  static HWY_INLINE Query Broadcast(const Element* x) {
    return {hn::Set(D(), x[0]), hn::Set(D(), x[1])};
  }
  static HWY_INLINE Keys Load(const uint32_t* words) {
    const DU du;
    const VU pairs = hn::LoadU(du, words);
    return {hn::BitCast(D(), hn::ShiftLeft<16>(pairs)),
            hn::BitCast(D(), hn::And(pairs, hn::Set(du, 0xffff0000U)))};
  }
  static HWY_INLINE V Multiply(V sum, const Query& query, const Keys& keys) {
    return hn::MulAdd(query.odd, keys.odd, hn::MulAdd(query.even, keys.even, sum));
  }
};

#if HWY_TARGET == HWY_AVX3_DL
// bf16 pairs on both sides. The instructions are written out because the target of this namespace
// does not include AVX512_BF16: GetOps asks the CPU first.
struct NativeOperand {
  using Element = uint16_t;
  static constexpr int kElementsPerWord = 2;
  struct Query {
    __m512i pairs;
  };
  struct Keys {
    __m512i pairs;
  };
  static HWY_INLINE Query Broadcast(const Element* x) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof(pair));
    return {_mm512_set1_epi32(pair)};
  }
  static HWY_INLINE Keys Load(const uint32_t* words) { return {_mm512_loadu_si512(words)}; }
  static HWY_INLINE V Multiply(V sum, const Query& query, const Keys& keys) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(query.pairs), "v"(keys.pairs));
    return sum;
  }
  // Rounds to nearest even.
  static HWY_INLINE void Store(V x, Element* target) {
    __m256i rounded;
    asm("vcvtneps2bf16 %1, %0" : "=v"(rounded) : "v"(x.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), rounded);
  }
};
#endif

// ---- The product ----

// c[query, vector] (+)= sum over steps of a[query, step] * b[step, vector]
struct Product {
  int64_t num_steps;  // words of the query side
  int64_t a_stride;   // elements from one query to the next
  int64_t b_step;     // words from one step to the next
  int64_t b_vector;   // words from one vector of a tile to the next
  int64_t c_stride;   // floats from one query to the next
  bool is_added;      // to what c holds
  int64_t prefetch;   // words ahead of b to ask memory for; 0: none
};

template <class Operand, int kQueries, int kVectors>
HWY_NOINLINE void MultiplyTile(const Product& product, const typename Operand::Element* a,
                               const uint32_t* b, float* c) {
  const D d;
  const Product p = product;  // The stores below could alias the original.
  V sums[kQueries][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = p.is_added ? hn::LoadU(d, c + i * p.c_stride + j * kLanes) : hn::Zero(d);
    }
  }
  for (int64_t step = 0; step < p.num_steps; ++step) {
    typename Operand::Keys keys[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) keys[j] = Operand::Load(b + j * p.b_vector);
    if (p.prefetch != 0) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) __builtin_prefetch(b + j * p.b_vector + p.prefetch);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const auto query = Operand::Broadcast(a + i * p.a_stride);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        sums[i][j] = Operand::Multiply(sums[i][j], query, keys[j]);
      }
    }
    a += Operand::kElementsPerWord;
    b += p.b_step;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      hn::StoreU(sums[i][j], d, c + i * p.c_stride + j * kLanes);
    }
  }
}

template <class Operand>
using TileFunction = void (*)(const Product&, const typename Operand::Element*, const uint32_t*,
                              float*);

template <class Operand, int kVectors>
TileFunction<Operand> ChooseQueries(int64_t num_queries) {
  if constexpr (kTileQueries == 6) {
    if (num_queries == 6) return &MultiplyTile<Operand, 6, kVectors>;
    if (num_queries == 5) return &MultiplyTile<Operand, 5, kVectors>;
  }
  if (num_queries == 4) return &MultiplyTile<Operand, 4, kVectors>;
  if (num_queries == 3) return &MultiplyTile<Operand, 3, kVectors>;
  if (num_queries == 2) return &MultiplyTile<Operand, 2, kVectors>;
  return &MultiplyTile<Operand, 1, kVectors>;
}

template <class Operand>
TileFunction<Operand> ChooseTile(int64_t num_queries, int64_t num_vectors) {
  if constexpr (kTileVectors == 4) {
    if (num_vectors == 4) return ChooseQueries<Operand, 4>(num_queries);
    if (num_vectors == 3) return ChooseQueries<Operand, 3>(num_queries);
    if (num_vectors == 1) return ChooseQueries<Operand, 1>(num_queries);
  }
  return ChooseQueries<Operand, 2>(num_queries);
}

// All queries, in tiles of nearly equal height, by `num_vectors` <= kTileVectors columns.
template <class Operand>
void MultiplyColumns(const Product& product, int64_t num_queries, int64_t num_vectors,
                     const typename Operand::Element* a, const uint32_t* b, float* c) {
  const int64_t num_tiles = (num_queries + kTileQueries - 1) / kTileQueries;
  const int64_t height = num_queries / num_tiles;
  const int64_t num_higher = num_queries % num_tiles;
  const auto higher = ChooseTile<Operand>(height + 1, num_vectors);
  const auto lower = ChooseTile<Operand>(height, num_vectors);
  int64_t query = 0;
  for (int64_t tile = 0; tile < num_tiles; ++tile) {
    const bool is_higher = tile < num_higher;
    (is_higher ? higher : lower)(product, a + query * product.a_stride, b,
                                 c + query * product.c_stride);
    query += is_higher ? height + 1 : height;
  }
}

template <class Operand>
void Scores(const ScoresParams& params) {
  constexpr int64_t kColumns = kTileVectors * kLanes;
  const int64_t num_steps = params.head_dim / Operand::kElementsPerWord;
  const int64_t block_words = kKvBlockTokens * num_steps;
  const Product product{.num_steps = num_steps,
                        .a_stride = params.head_dim,
                        .b_step = kKvBlockTokens,
                        .b_vector = kLanes == kKvBlockTokens ? block_words : kLanes,
                        .c_stride = params.scores_stride,
                        .is_added = false,
                        .prefetch = params.prefetch_keys * num_steps};
  const auto* const queries = static_cast<const typename Operand::Element*>(params.queries);
  const auto* const keys = static_cast<const uint32_t*>(params.keys);
  for (int64_t key = 0; key < params.num_keys; key += kColumns) {
    const int64_t num_vectors = HWY_MIN(kColumns, params.num_keys - key) / kLanes;
    const uint32_t* const b = keys + key / kKvBlockTokens * block_words + key % kKvBlockTokens;
    MultiplyColumns<Operand>(product, params.num_queries, num_vectors, queries, b,
                             params.scores + key);
  }
}

template <class Operand>
void MultiplyValues(const ValuesParams& params, const typename Operand::Element* probabilities,
                    const uint32_t* values, int64_t num_steps) {
  constexpr int64_t kColumns = kTileVectors * kLanes;
  const Product product{
      .num_steps = num_steps,
      .a_stride = params.probabilities_stride,
      .b_step = params.head_dim,
      .b_vector = kLanes,
      .c_stride = params.head_dim,
      .is_added = true,
      .prefetch = params.prefetch_keys * params.head_dim / Operand::kElementsPerWord};
  for (int64_t i = 0; i < params.head_dim; i += kColumns) {
    const int64_t num_vectors = HWY_MIN(kColumns, params.head_dim - i) / kLanes;
    MultiplyColumns<Operand>(product, params.num_queries, num_vectors, probabilities, values + i,
                             params.output + i);
  }
}

template <class Operand>
void Values(const ValuesParams& params) {
  constexpr int64_t kPerWord = Operand::kElementsPerWord;
  const auto* const probabilities =
      static_cast<const typename Operand::Element*>(params.probabilities);
  const auto* const values = static_cast<const uint32_t*>(params.values);
  const int64_t num_steps = params.num_keys / kPerWord;
  MultiplyValues<Operand>(params, probabilities, values, num_steps);
  if (params.num_keys % kPerWord == 0) return;
  // The other token of the last pair may hold anything, and 0 * NaN is NaN.
  uint32_t pairs[256];
  for (int64_t i = 0; i < params.head_dim; ++i) {
    pairs[i] = values[num_steps * params.head_dim + i] & 0xffffU;
  }
  MultiplyValues<Operand>(params, probabilities + num_steps * kPerWord, pairs, 1);
}

// ---- Exponentials ----

// 2^f for f in [0, 1): within 7.5e-5 relative, or within 8e-8 before rounding.
struct CoarsePolynomial {
  static HWY_INLINE V Evaluate(V f) {
    const D d;
    V p = hn::MulAdd(hn::Set(d, 0.0780245226F), f, hn::Set(d, 0.226067155F));
    p = hn::MulAdd(p, f, hn::Set(d, 0.69583354F));
    return hn::MulAdd(p, f, hn::Set(d, 0.999925219F));
  }
};

struct FinePolynomial {
  static HWY_INLINE V Evaluate(V f) {
    const D d;
    V p = hn::MulAdd(hn::Set(d, 0.00187757668F), f, hn::Set(d, 0.00898934009F));
    p = hn::MulAdd(p, f, hn::Set(d, 0.0558263181F));
    p = hn::MulAdd(p, f, hn::Set(d, 0.240153617F));
    p = hn::MulAdd(p, f, hn::Set(d, 0.693153073F));
    return hn::MulAdd(p, f, hn::Set(d, 0.999999925F));
  }
};

// 2^x for x < 128. Results below the smallest normal number may be 0; -infinity gives 0, NaN NaN.
template <class Polynomial>
HWY_INLINE V Exp2(V x) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  // The fraction above the floor; scalef takes the floor of its second argument itself.
  const V fraction{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEG_INF)};
  return V{_mm512_scalef_ps(Polynomial::Evaluate(fraction).raw, x.raw)};
#else
  const D d;
  const DI di;
  const V whole = hn::Floor(hn::Max(x, hn::Set(d, -126.0F)));
  const V p = Polynomial::Evaluate(hn::Sub(x, whole));
  const auto exponent = hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127));
  const V scaled = hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(exponent)));
  // Written so that NaN is kept.
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, -126.0F)), hn::Zero(d), scaled);
#endif
}

void Softcap(float* x, int64_t num_elements, float cap) {
  const D d;
  const V scale = hn::Set(d, 2.0F * kLog2E / cap);
  const V cap_log2 = hn::Set(d, cap * kLog2E);
  const V one = hn::Set(d, 1.0F);
  for (int64_t i = 0; i < num_elements; i += kLanes) {
    // tanh(y) = 1 - 2 / (e^2y + 1); beyond 2^100 it is 1 anyway.
    const V y = hn::Mul(hn::LoadU(d, x + i), scale);
    const V limited = hn::IfThenElse(hn::Gt(y, hn::Set(d, 100.0F)), hn::Set(d, 100.0F), y);
    const V e = Exp2<FinePolynomial>(limited);
    const V tanh = hn::Sub(one, hn::Div(hn::Set(d, 2.0F), hn::Add(e, one)));
    hn::StoreU(hn::Mul(cap_log2, tanh), d, x + i);
  }
}

float SumLanes(const float* lanes) {
  const D d;
  V sum = hn::LoadU(d, lanes);
  for (int64_t i = kLanes; i < kKvBlockTokens; i += kLanes) {
    sum = hn::Add(sum, hn::LoadU(d, lanes + i));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void Scale(const float* source, float factor, int64_t num_elements, float* target) {
  const D d;
  for (int64_t i = 0; i < num_elements; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, source + i), hn::Set(d, factor)), d, target + i);
  }
}

void AddScaled(const float* source, float factor, int64_t num_elements, float* target) {
  const D d;
  const V factors = hn::Set(d, factor);
  for (int64_t i = 0; i < num_elements; i += kLanes) {
    const V sum = hn::MulAdd(hn::LoadU(d, source + i), factors, hn::LoadU(d, target + i));
    hn::StoreU(sum, d, target + i);
  }
}

// How far, in powers of two, a score may exceed the stabiliser before that moves.
constexpr float kHeadroom = 8.0F;

// Raises the stabiliser of a query to its largest score, and rescales what was summed up with it.
HWY_NOINLINE void RaiseMax(const SoftmaxParams& params, int64_t query, float new_max) {
  const float old_max = params.max[query];
  params.max[query] = new_max;
  if (old_max == -std::numeric_limits<float>::infinity()) return;  // Nothing was summed up yet.
  const float factor = std::exp2(old_max - new_max);
  float* const sum = params.sum + query * kKvBlockTokens;
  Scale(sum, factor, kKvBlockTokens, sum);
  if (params.output == nullptr) return;
  float* const output = params.output + query * params.head_dim;
  Scale(output, factor, params.head_dim, output);
}

HWY_INLINE void Store(V x, float* target) { hn::StoreU(x, D(), target); }
#if HWY_TARGET == HWY_AVX3_DL
HWY_INLINE void Store(V x, uint16_t* target) { NativeOperand::Store(x, target); }
#endif

template <class Polynomial, typename Element>
void Softmax(const SoftmaxParams& params) {
  const D d;
  auto* const probabilities = static_cast<Element*>(params.probabilities);
  for (int64_t query = 0; query < params.num_queries; ++query) {
    const float* const scores = params.scores + query * params.scores_stride;
    V largest = hn::LoadU(d, scores);
    for (int64_t i = kLanes; i < params.num_keys; i += kLanes) {
      largest = hn::Max(largest, hn::LoadU(d, scores + i));
    }
    if (!hn::AllFalse(d, hn::Gt(largest, hn::Set(d, params.max[query] + kHeadroom)))) {
      RaiseMax(params, query, hn::GetLane(hn::MaxOfLanes(d, largest)));
    }
    // Without a finite score there is nothing to stabilise, and -infinity - -infinity is NaN.
    const bool is_empty = params.max[query] == -std::numeric_limits<float>::infinity();
    const V max = hn::Set(d, is_empty ? 0.0F : params.max[query]);
    Element* const target = probabilities + query * params.scores_stride;
    float* const sums = params.sum + query * kKvBlockTokens;
    V sum = hn::LoadU(d, sums);
    for (int64_t i = 0; i < params.num_keys; i += kLanes) {
      const V p = Exp2<Polynomial>(hn::Sub(hn::LoadU(d, scores + i), max));
      Store(p, target + i);
      sum = hn::Add(sum, p);
    }
    hn::StoreU(sum, d, sums);
  }
}

// ---- The tables ----

void PackF32(const float* source, int64_t num_elements, float factor, void* target) {
  Scale(source, factor, num_elements, static_cast<float*>(target));
}

const AttentionOps& F32Ops() {
  static constexpr AttentionOps kOps = {
      .operand_bytes = 4,
      .pack = PackF32,
      .scores = Scores<F32Operand>,
      .softcap = Softcap,
      .softmax = Softmax<FinePolynomial, float>,
      .softmax_f32 = Softmax<FinePolynomial, float>,
      .values = Values<F32Operand>,
      .sum_lanes = SumLanes,
      .scale = Scale,
      .add_scaled = AddScaled,
  };
  return kOps;
}

const AttentionOps& WideOps() {
  static constexpr AttentionOps kOps = {
      .operand_bytes = 4,
      .pack = PackF32,
      .scores = Scores<WideOperand>,
      .softcap = Softcap,
      .softmax = Softmax<FinePolynomial, float>,
      .softmax_f32 = Softmax<FinePolynomial, float>,
      .values = Values<WideOperand>,
      .sum_lanes = SumLanes,
      .scale = Scale,
      .add_scaled = AddScaled,
  };
  return kOps;
}

#if HWY_TARGET == HWY_AVX3_DL
void PackBf16(const float* source, int64_t num_elements, float factor, void* target) {
  const D d;
  for (int64_t i = 0; i < num_elements; i += kLanes) {
    NativeOperand::Store(hn::Mul(hn::LoadU(d, source + i), hn::Set(d, factor)),
                         static_cast<uint16_t*>(target) + i);
  }
}

const AttentionOps& NativeOps() {
  static constexpr AttentionOps kOps = {
      .operand_bytes = 2,
      .pack = PackBf16,
      .scores = Scores<NativeOperand>,
      .softcap = Softcap,
      .softmax = Softmax<CoarsePolynomial, uint16_t>,
      .softmax_f32 = Softmax<FinePolynomial, float>,
      .values = Values<NativeOperand>,
      .sum_lanes = SumLanes,
      .scale = Scale,
      .add_scaled = AddScaled,
  };
  return kOps;
}
#endif

const AttentionOps* GetOps(KvType type) {
  if (type == KvType::kF32) return &F32Ops();
#if HWY_TARGET == HWY_AVX3_DL
  if (__builtin_cpu_supports("avx512bf16")) return &NativeOps();
#endif
  return &WideOps();
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(GetOps);

const AttentionOps& GetAttentionOps(KvType type) { return *HWY_DYNAMIC_DISPATCH(GetOps)(type); }

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
