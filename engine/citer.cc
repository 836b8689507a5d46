#include "engine/citer.h"

#include <algorithm>
#include <utility>

#include "engine/source_picker.h"
#include "kernels/attention_rows.h"
#include "query/sentences.h"

namespace intarsia::engine {

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
  std::vector<CandidateSource> candidates;
  for (const Source& source : sources_) candidates.push_back({.words = source.words});
  for (const Step& step : steps_) {
    if (step.answer_end <= sentence.begin || step.answer_end > sentence.end) continue;
    for (size_t i = 0; i < candidates.size(); ++i) candidates[i].attention += step.mass[i];
  }
  std::vector<Citation> citations;
  for (const PickedSource& picked : PickSources(ContentWords(sentence.Of(answer)), candidates)) {
    const Source& source = sources_[picked.index];
    citations.push_back({.passage = source.passage,
                         .quote = source.range,
                         .answer = sentence,
                         .score = picked.score});
  }
  return citations;
}

}  // namespace intarsia::engine
