// Bound: memory for a greedy row; a sampled one computes a weight for each token of the vocabulary.
// Design: without a cut no order is needed, since a draw counts tokens by their number. A cut needs
// the order of the most likely tokens alone, which are sorted piece by piece until it is reached.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/sample_draw.h"
#include "kernels/sample_rows.h"
#include "kernels/softmax.h"

namespace intarsia::kernels {
namespace {

// The first piece of the order; each further one is as long as all before it.
constexpr size_t kFirstSorted = 1'024;

// A row of logits and how much each of its tokens counts.
struct SampledRow {
  const float* logits = nullptr;
  int64_t vocab_size = 0;
  float largest = 0.0F;
  float temperature = 0.0F;

  uint64_t WeightOf(int64_t token) const {
    const float logit = logits[token];
    return OrderOfLogit(logit) == 0 ? 0 : WeightOfLogit(logit, largest, temperature);
  }
};

int64_t TokenOfRank(uint64_t rank) {
  return int64_t{0xffffffffU - static_cast<uint32_t>(rank & 0xffffffffU)};
}

// The tokens that the cuts leave, ascending.
std::vector<int64_t> KeptTokens(const SampledRow& row, const SampleRule& rule) {
  std::vector<uint64_t> ranks;
  ranks.reserve(static_cast<size_t>(row.vocab_size));
  for (int64_t token = 0; token < row.vocab_size; ++token) {
    if (OrderOfLogit(row.logits[token]) != 0)
      ranks.push_back(RankOfToken(row.logits[token], token));
  }
  if (rule.top_k > 0 && static_cast<size_t>(rule.top_k) < ranks.size()) {
    std::ranges::nth_element(ranks, ranks.begin() + rule.top_k, std::greater<>());
    ranks.resize(static_cast<size_t>(rule.top_k));
  }
  size_t num_kept = ranks.size();
  if (rule.top_p < 1.0F) {
    uint64_t whole = 0;
    for (const uint64_t rank : ranks) whole += row.WeightOf(TokenOfRank(rank));
    const uint64_t wanted = WantedWeight(whole, rule.top_p);
    uint64_t kept = 0;
    size_t num_sorted = 0;
    for (num_kept = 0; num_kept < ranks.size() && kept < wanted; ++num_kept) {
      if (num_kept == num_sorted) {
        const size_t end = std::min(ranks.size(), std::max(kFirstSorted, 2 * num_sorted));
        std::partial_sort(ranks.begin() + static_cast<int64_t>(num_sorted),
                          ranks.begin() + static_cast<int64_t>(end), ranks.end(), std::greater<>());
        num_sorted = end;
      }
      kept += row.WeightOf(TokenOfRank(ranks[num_kept]));
    }
  }
  std::vector<int64_t> tokens(num_kept);
  std::transform(ranks.begin(), ranks.begin() + static_cast<int64_t>(num_kept), tokens.begin(),
                 TokenOfRank);
  std::ranges::sort(tokens);
  return tokens;
}

// The token that the draw falls on among num_tokens, whose numbers `token_at` says.
template <typename TokenAt>
int32_t Draw(const SampledRow& row, uint32_t number, int64_t num_tokens, const TokenAt& token_at) {
  uint64_t whole = 0;
  for (int64_t i = 0; i < num_tokens; ++i) whole += row.WeightOf(token_at(i));
  const uint64_t drawn = ShareOf(whole, number);
  uint64_t sum = 0;
  for (int64_t i = 0; i < num_tokens; ++i) {
    sum += row.WeightOf(token_at(i));
    if (sum > drawn) return static_cast<int32_t>(token_at(i));
  }
  // Not reached: the largest logit counts 2^40.
  return static_cast<int32_t>(token_at(num_tokens - 1));
}

int32_t SampleRow(const float* logits, int64_t vocab_size, const SampleRule& rule, int32_t step) {
  const int64_t best = ArgMax(logits, vocab_size);
  if (best < 0 || OrderOfLogit(logits[best]) == 0) return -1;
  const SampledRow row = {logits, vocab_size, logits[best], rule.temperature};
  if (rule.temperature == 0.0F || row.largest == INFINITY || rule.top_k == 1) {
    return static_cast<int32_t>(best);
  }
  const uint32_t number = DrawNumber(rule.seed, step);
  if (rule.top_k == 0 && rule.top_p == 1.0F) {
    return Draw(row, number, vocab_size, [](int64_t token) { return token; });
  }
  const std::vector<int64_t> kept = KeptTokens(row, rule);
  return Draw(row, number, std::ssize(kept),
              [&kept](int64_t index) { return kept[static_cast<size_t>(index)]; });
}

}  // namespace

Status SampleRows(const SampleRowsParams& params) { return SampleEachRow(params, SampleRow); }

}  // namespace intarsia::kernels
