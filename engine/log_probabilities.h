// LogProbabilities: distributions of the next token, and how far apart two of them are.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <span>
#include <vector>

namespace intarsia::engine {

// log softmax of a row of logits, which may not be empty.
std::vector<double> LogProbabilities(std::span<const float> logits);

// KL(reference || other) in nats, of two rows of log-probabilities of one size.
double KlDivergence(std::span<const double> reference, std::span<const double> other);

}  // namespace intarsia::engine
