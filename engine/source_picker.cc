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

// A second source is worth naming if it has at least this share of the best one's weight, and adds
// at least this share of the sentence's words.
constexpr double kSecondShare = 0.25;
constexpr double kAddedMin = 0.2;
constexpr size_t kSourcesMax = 2;

// Attention alone may look at a sentence for its place; words in common say that it was read.
constexpr double kOverlapFloor = 0.05;

// A source that holds less than this share of a sentence's words is none.
constexpr double kOverlapMin = 0.3;
// And what is cited for a sentence holds at least this share together, or nothing is.
constexpr double kSupportMin = 0.5;

// Numbers are what answers are asked for, and they are not paraphrased.
constexpr double kNumberWeight = 2.0;

// Words that carry no evidence.
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
  std::vector<std::vector<std::string>> common(candidates.size());
  std::vector<double> weights(candidates.size());
  double sum = 0.0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    std::ranges::set_intersection(words, candidates[i].words, std::back_inserter(common[i]));
    const double overlap = common[i].empty() ? 0.0 : WeightOf(common[i]) / all_words;
    if (overlap < kOverlapMin) continue;
    weights[i] = candidates[i].attention * (kOverlapFloor + overlap * overlap);
    sum += weights[i];
  }
  std::vector<PickedSource> picked;
  std::vector<std::string> supported;
  while (picked.size() < kSourcesMax && sum > 0.0) {
    const auto best = std::ranges::max_element(weights);
    const double score = *best / sum;
    if (*best <= 0.0 || (!picked.empty() && score < kSecondShare * picked.front().score)) break;
    *best = 0.0;
    const auto index = static_cast<size_t>(best - weights.begin());
    std::vector<std::string> together;
    std::ranges::set_union(supported, common[index], std::back_inserter(together));
    if (WeightOf(together) - WeightOf(supported) < kAddedMin * all_words) continue;
    supported = std::move(together);
    picked.push_back({.index = index, .score = score});
  }
  if (WeightOf(supported) < kSupportMin * all_words) picked.clear();
  return picked;
}

}  // namespace intarsia::engine
