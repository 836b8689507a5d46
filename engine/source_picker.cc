#include "engine/source_picker.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <iterator>
#include <set>
#include <utility>

#include "base/check.h"
#include "index/stemmer.h"

namespace intarsia::engine {
namespace {

// A further source is worth naming if it has at least this share of the best one's weight, and adds
// at least this share of the sentence's words; less if it stands in the sentence itself, as the
// items of a list do that was made one sentence.
constexpr double kFurtherShare = 0.25;
constexpr double kAddedMin = 0.3;
constexpr double kAddedByContainedMin = 0.1;
constexpr size_t kSourcesMax = 4;

// Attention alone may look at a sentence for its place; words in common say that it was read.
constexpr double kOverlapFloor = 0.05;

// A source holds at least the first share of a sentence's words, or the sentence at least the
// second of the source's words, and not too few of them.
constexpr double kOverlapMin = 0.3;
constexpr double kContainedMin = 0.6;
constexpr double kContainedWeightMin = 3.0;

// What is cited for a sentence holds at least this share of its words together, or nothing is.
constexpr double kSupportMin = 0.4;

// Numbers are what answers are asked for, and they are not paraphrased.
constexpr double kNumberWeight = 2.0;

// Words that carry no evidence. Fewer than those that a question can be found without
// (index/text_analyzer.cc): whether something must or may be, or all of it, is a fact to cite.
bool IsCommonWord(const std::string& word) {
  static const std::set<std::string, std::less<>> kCommon = {
      "a",    "an",  "and",  "are",  "as",    "at",   "be",   "but", "by",   "can",  "do",
      "does", "for", "from", "has",  "have",  "how",  "if",   "in",  "is",   "it",   "its",
      "no",   "not", "of",   "on",   "or",    "so",   "that", "the", "then", "they", "this",
      "to",   "was", "what", "when", "which", "will", "with", "yes", "you",  "your"};
  return kCommon.contains(word);
}

// Without the number of a list item, which is no fact.
std::string_view WithoutListMark(std::string_view text) {
  const size_t end = text.find_first_not_of("0123456789");
  const bool is_mark = end != std::string_view::npos && end > 0 && end + 1 < text.size() &&
                       (text[end] == '.' || text[end] == ')') && text[end + 1] == ' ';
  return is_mark ? text.substr(end + 2) : text;
}

double WeightOf(std::span<const std::string> words) {
  double weight = 0.0;
  for (const std::string& word : words) {
    const bool has_digit = std::ranges::any_of(word, [](char c) { return c >= '0' && c <= '9'; });
    weight += has_digit ? kNumberWeight : 1.0;
  }
  return weight;
}

// What a candidate has to do with a sentence.
struct Match {
  std::vector<std::string> common;  // words
  double weight = 0.0;              // 0: nothing
  bool is_contained = false;        // the sentence holds most of the candidate's words
};

Match MatchOf(std::span<const std::string> words, const CandidateSource& candidate) {
  Match match;
  std::ranges::set_intersection(words, candidate.words, std::back_inserter(match.common));
  if (match.common.empty()) return match;
  const double weight = WeightOf(match.common);
  const double overlap = weight / WeightOf(words);
  const double contained = weight / WeightOf(candidate.words);
  match.is_contained = contained >= kContainedMin && weight >= kContainedWeightMin;
  if (overlap < kOverlapMin && !match.is_contained) return match;
  const double fit = match.is_contained ? std::max(overlap, kOverlapMin * contained) : overlap;
  match.weight = candidate.attention * (kOverlapFloor + fit * fit);
  return match;
}

}  // namespace

std::vector<std::string> ContentWords(std::string_view text) {
  text = WithoutListMark(text);
  // "builds" and "building" are one word; a stemmer for English exists in every build.
  const Result<index::Stemmer> stemmer = index::Stemmer::Create("english");
  INTARSIA_CHECK(stemmer.ok());
  std::set<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty() && !IsCommonWord(word)) words.insert(stemmer->Stem(word));
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte) != 0) {
      word.push_back(byte < 0x80 ? static_cast<char>(std::tolower(byte)) : c);
    } else {
      finish();
    }
  }
  finish();
  return {words.begin(), words.end()};
}

std::vector<PickedSource> PickSources(std::span<const std::string> words,
                                      std::span<const CandidateSource> candidates) {
  const double all_words = WeightOf(words);
  std::vector<Match> matches(candidates.size());
  double sum = 0.0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    matches[i] = MatchOf(words, candidates[i]);
    sum += matches[i].weight;
  }
  std::vector<PickedSource> picked;
  std::vector<std::string> supported;
  while (picked.size() < kSourcesMax && sum > 0.0) {
    const auto best = std::ranges::max_element(matches, {}, &Match::weight);
    const double score = std::exchange(best->weight, 0.0) / sum;
    if (score <= 0.0 || (!picked.empty() && score < kFurtherShare * picked.front().score)) break;
    std::vector<std::string> together;
    std::ranges::set_union(supported, best->common, std::back_inserter(together));
    const double added = WeightOf(together) - WeightOf(supported);
    const double added_min = best->is_contained ? kAddedByContainedMin : kAddedMin;
    if (!picked.empty() && added < added_min * all_words) continue;
    supported = std::move(together);
    picked.push_back({.index = static_cast<size_t>(best - matches.begin()), .score = score});
  }
  if (WeightOf(supported) < kSupportMin * all_words) picked.clear();
  return picked;
}

}  // namespace intarsia::engine
