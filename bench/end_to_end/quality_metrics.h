// QualityMetrics: how far an answer from fused caches is from the answer of a full prefill.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace intarsia::bench {

// log softmax of a row of logits.
std::vector<double> LogProbabilities(std::span<const float> logits);

// KL(reference || other) in nats, of two rows of log-probabilities.
double KlDivergence(std::span<const double> reference, std::span<const double> other);

// Token F1 as SQuAD counts it: lower case, without punctuation and articles.
double TokenF1(std::string_view prediction, std::string_view gold);

}  // namespace intarsia::bench
