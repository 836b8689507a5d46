#include "bench/end_to_end/next_token_quality.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "engine/log_probabilities.h"
#include "kernels/softmax.h"

namespace intarsia::bench {

void NextTokenQuality::Add(std::span<const float> reference, std::span<const float> logits,
                           int32_t next_token) {
  const std::vector<double> wanted = engine::LogProbabilities(reference);
  const std::vector<double> got = engine::LogProbabilities(logits);
  kl_.push_back(engine::KlDivergence(wanted, got));
  loss_ -= got[static_cast<size_t>(next_token)];
  num_agreeing_ += kernels::ArgMax(reference.data(), std::ssize(reference)) ==
                   kernels::ArgMax(logits.data(), std::ssize(logits));
}

void NextTokenQuality::AddAll(std::span<const float> reference, std::span<const float> logits,
                              std::span<const int32_t> next_tokens) {
  const size_t vocab_size = logits.size() / next_tokens.size();
  for (size_t i = 0; i < next_tokens.size(); ++i) {
    Add(reference.subspan(i * vocab_size, vocab_size), logits.subspan(i * vocab_size, vocab_size),
        next_tokens[i]);
  }
}

void NextTokenQuality::ReportHeading(const std::string& reference) {
  std::printf(
      "| products | tokens | KL from %s, mean | median | p99 | first choice agrees | loss |\n",
      reference.c_str());
  std::printf("|---|---|---|---|---|---|---|\n");
}

void NextTokenQuality::Report() const {
  std::vector<double> kl = kl_;
  std::ranges::sort(kl);
  const auto count = static_cast<double>(kl.size());
  const double mean = std::accumulate(kl.begin(), kl.end(), 0.0) / count;
  const auto quantile = [&](double share) {
    return kl[static_cast<size_t>(share * static_cast<double>(kl.size() - 1))];
  };
  std::printf("| %s | %zu | %.5f | %.5f | %.5f | %.4f | %.4f |\n", name_.c_str(), kl.size(), mean,
              quantile(0.5), quantile(0.99), static_cast<double>(num_agreeing_) / count,
              loss_ / count);
}

}  // namespace intarsia::bench
