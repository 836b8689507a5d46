// NextTokenQuality: how far the next token's distributions of one way to compute a model are from
// those of a reference, over many positions of a text.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace intarsia::bench {

class NextTokenQuality {
 public:
  explicit NextTokenQuality(std::string name) : name_(std::move(name)) {}

  // A position: logits of the reference and of this way, and the token that follows in the text.
  void Add(std::span<const float> reference, std::span<const float> logits, int32_t next_token);
  // The same for positions in a row, logits [num_positions, vocab_size]; `next_tokens` counts them.
  void AddAll(std::span<const float> reference, std::span<const float> logits,
              std::span<const int32_t> next_tokens);

  // A heading for lines of Report.
  static void ReportHeading(const std::string& reference);
  // A line: positions, KL from the reference (mean, median, 99th percentile), the share of
  // positions with the same first choice, and the mean loss on the text.
  void Report() const;

 private:
  const std::string name_;
  std::vector<double> kl_;
  double loss_ = 0.0;
  int64_t num_agreeing_ = 0;
};

}  // namespace intarsia::bench
