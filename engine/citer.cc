#include "engine/citer.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "kernels/attention_rows.h"
#include "query/sentences.h"

namespace intarsia::engine {
namespace {

// A second source is worth naming if it has at least this share of the best one's weight.
constexpr double kSecondShare = 0.6;

// Attention alone may look at a sentence for its place; a word in common says that it was read.
constexpr double kOverlapFloor = 0.05;

// Words that carry no evidence.
bool IsCommonWord(const std::string& word) {
  static const std::set<std::string, std::less<>> kCommon = {
      "a",    "an",  "and", "are",  "as",   "at",    "be",   "by",   "can", "for", "from", "has",
      "have", "how", "in",  "is",   "it",   "its",   "not",  "of",   "on",  "or",  "that", "the",
      "this", "to",  "was", "what", "when", "which", "will", "with", "you", "your"};
  return kCommon.contains(word);
}

// Lower-case words of letters, digits and everything beyond ASCII; sorted, each once.
std::vector<std::string> ContentWords(std::string_view text) {
  std::set<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty() && !IsCommonWord(word)) words.insert(word);
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

}  // namespace

Citer::Citer(const model::Transformer& transformer, std::vector<CitedPassage> passages,
             int64_t num_prompt_tokens)
    : transformer_(transformer),
      passages_(std::move(passages)),
      mass_(static_cast<size_t>(num_prompt_tokens)) {
  FindSources();
}

void Citer::FindSources() {
  for (size_t index = 0; index < passages_.size(); ++index) {
    const CitedPassage& passage = passages_[index];
    for (const query::ByteRange& range : query::SplitSentences(passage.text)) {
      Source source;
      source.passage = index;
      source.range = range;
      const auto overlaps = [&range](const model::TokenRange& token) {
        return token.begin < range.end && token.end > range.begin && token.begin < token.end;
      };
      const auto first = std::ranges::find_if(passage.ranges, overlaps);
      const auto last = std::find_if_not(first, passage.ranges.end(), overlaps);
      source.token_begin = passage.token_begin + (first - passage.ranges.begin());
      source.token_end = passage.token_begin + (last - passage.ranges.begin());
      source.words = ContentWords(range.Of(passage.text));
      if (source.token_begin < source.token_end) sources_.push_back(std::move(source));
    }
  }
}

Status Citer::OnQueries(const model::LayerQueries& queries) {
  const model::ModelConfig& config = transformer_.config();
  if (queries.layer < 2 * (config.num_layers / 3) || queries.positions.size() != 1) {
    return Status::Ok();
  }
  const auto needed = static_cast<size_t>(queries.positions.front()) + 1;
  if (mass_.size() < needed) mass_.resize(needed);
  constexpr float kOne = 1.0f;
  return kernels::AttentionMass(
      {.rows = {.layer = queries.cache->layer(queries.layer),
                .q = queries.q,
                .positions = queries.positions.data(),
                .num_rows = 1,
                .num_heads = config.num_heads,
                .scale = config.attention_scale,
                .window = config.has_window(queries.layer) ? config.sliding_window : 0,
                .logit_softcap = config.attention_logit_softcap},
       .weights = &kOne,
       .mass = mass_.data(),
       .num_keys = std::ssize(mass_)},
      transformer_.pool());
}

void Citer::FinishStep(int64_t answer_end) {
  Step& step = steps_.emplace_back();
  step.answer_end = answer_end;
  for (const Source& source : sources_) {
    float sum = 0.0f;
    for (int64_t at = source.token_begin; at < source.token_end; ++at) {
      sum += mass_[static_cast<size_t>(at)];
    }
    step.mass.push_back(sum);
  }
  std::ranges::fill(mass_, 0.0f);
}

std::vector<Citation> Citer::Cite(std::string_view answer, query::ByteRange sentence) const {
  std::vector<double> weights(sources_.size());
  for (const Step& step : steps_) {
    if (step.answer_end <= sentence.begin || step.answer_end > sentence.end) continue;
    for (size_t i = 0; i < weights.size(); ++i) weights[i] += step.mass[i];
  }
  const std::vector<std::string> words = ContentWords(sentence.Of(answer));
  double sum = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    std::vector<std::string> common;
    std::ranges::set_intersection(words, sources_[i].words, std::back_inserter(common));
    const double overlap =
        words.empty() ? 0.0
                      : static_cast<double>(common.size()) / static_cast<double>(words.size());
    weights[i] *= common.empty() ? 0.0 : kOverlapFloor + overlap * overlap;
    sum += weights[i];
  }
  std::vector<Citation> citations;
  while (citations.size() < 2 && sum > 0.0) {
    const auto best = std::ranges::max_element(weights);
    const Source& source = sources_[static_cast<size_t>(best - weights.begin())];
    const double score = *best / sum;
    if (*best <= 0.0 || (!citations.empty() && score < kSecondShare * citations.front().score)) {
      break;
    }
    citations.push_back(
        {.passage = source.passage, .quote = source.range, .answer = sentence, .score = score});
    *best = 0.0;
  }
  return citations;
}

}  // namespace intarsia::engine
