// ContentWords, PickSources: which sentences support a sentence of an answer.
//
// Attention says where the model looked, words say what it took from there; a source needs both.
// Words are compared by their English stems, words that carry no evidence are left
// out, and numbers count twice, because they are what answers are asked for and are not
// paraphrased.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace intarsia::engine {

// The words of the sentence `text` that count, lower case and stemmed; sorted, each
// once. The number that a list item begins with is none.
std::vector<std::string> ContentWords(std::string_view text);

struct CandidateSource {
  std::span<const std::string> words;  // as by ContentWords
  double attention = 0.0;              // that the sentence paid to it; >= 0
};

struct PickedSource {
  size_t index = 0;    // of the candidate
  double score = 0.0;  // in (0, 1]: its share of the attention, weighted by words in common
};

// The sources of a sentence with `words`, best first: the candidate with most weighted attention,
// and up to three more if they add a good part of the words. Empty if all of them hold too few of
// the words: no source is better than one that a reader would not agree with.
std::vector<PickedSource> PickSources(std::span<const std::string> words,
                                      std::span<const CandidateSource> candidates);

}  // namespace intarsia::engine
