// Citer: which sentences of the passages an answer's words came from.
//
// While the answer is generated, each step's attention over the prompt (FusedRun::Step) is kept. A
// sentence of the answer is then traced to the few sentences of passages that got most of it and
// hold its words, or to none (source_picker.h). What is cited is checked against the stored text.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "query/byte_range.h"

namespace intarsia::engine {

// A passage as it lies in the prompt.
struct CitedPassage {
  std::string text;                       // the chunk's
  int64_t token_begin = 0;                // position of its first token
  std::vector<model::TokenRange> ranges;  // [num_tokens], bytes of `text`
  std::string heading;                    // the line above it, without its end; may be empty
};

struct Citation {
  size_t passage = 0;
  query::ByteRange quote;   // of the passage's text
  query::ByteRange answer;  // of the answer, the sentence that it supports
  double score = 0.0;       // in (0, 1]: its share of the sentence's weighted attention
};

class Citer {
 public:
  explicit Citer(std::vector<CitedPassage> passages);

  // Says that a step read the token that ends at byte `answer_end` of the answer, and how much it
  // attended to each position. REQUIRES: `attention` holds all positions of the passages.
  void AddStep(int64_t answer_end, std::span<const float> attention);

  // Citations of the answer's sentence `sentence`, best first, at most four.
  std::vector<Citation> Cite(std::string_view answer, query::ByteRange sentence) const;

  const std::vector<CitedPassage>& passages() const { return passages_; }

 private:
  struct Source {  // a sentence of a passage
    size_t passage = 0;
    query::ByteRange range;
    int64_t token_begin = 0;  // positions in the prompt
    int64_t token_end = 0;
    std::vector<std::string> words;  // sorted
  };
  struct Step {
    int64_t answer_end = 0;
    std::vector<float> mass;  // [sources]
  };

  void FindSources();

  const std::vector<CitedPassage> passages_;
  std::vector<Source> sources_;
  std::vector<Step> steps_;
};

}  // namespace intarsia::engine
