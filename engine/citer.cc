#include "engine/citer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/source_picker.h"
#include "query/sentences.h"

namespace intarsia::engine {

Citer::Citer(std::vector<CitedPassage> passages) : passages_(std::move(passages)) { FindSources(); }

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

void Citer::AddStep(int64_t answer_end, std::span<const float> attention) {
  Step& step = steps_.emplace_back();
  step.answer_end = answer_end;
  for (const Source& source : sources_) {
    INTARSIA_CHECK(source.token_end <= std::ssize(attention));
    float sum = 0.0f;
    for (int64_t at = source.token_begin; at < source.token_end; ++at) {
      sum += attention[static_cast<size_t>(at)];
    }
    step.mass.push_back(sum);
  }
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
