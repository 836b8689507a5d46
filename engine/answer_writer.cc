#include "engine/answer_writer.h"

#include <algorithm>
#include <utility>

#include "engine/answerer.h"
#include "query/sentences.h"

namespace intarsia::engine {
namespace {

constexpr std::string_view kBlanks = " \t\n\v\f\r";
// What the mark of a list item, a heading, a table row or a rule is made of.
constexpr std::string_view kMarks = " \t\r#>|*+-=_~`.):0123456789";

// How much of `plain` certainly ends no sentence before its end.
int64_t SettledSize(std::string_view plain) {
  const size_t newline = plain.rfind('\n');
  if (newline != std::string_view::npos &&
      plain.find_first_not_of(kMarks, newline + 1) == std::string_view::npos) {
    plain = plain.substr(0, newline);
  }
  return static_cast<int64_t>(plain.find_last_not_of(kBlanks) + 1);
}

}  // namespace

AnswerWriter::AnswerWriter(const model::Tokenizer& tokenizer, const Citer& citer, TokenSink* sink)
    : decoder_(&tokenizer), citer_(citer), sink_(sink) {}

Status AnswerWriter::Push(int32_t token) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string piece, decoder_.Push(token));
  Append(piece);
  return Status::Ok();
}

void AnswerWriter::Append(std::string_view piece) {
  if (is_over_) return;
  if (plain_.empty()) {
    const size_t num_blanks = std::min(piece.find_first_not_of(kBlanks), piece.size());
    num_dropped_ += static_cast<int64_t>(num_blanks);
    piece.remove_prefix(num_blanks);
  }
  plain_.append(piece);
  const std::string_view known = std::string_view(plain_).substr(0, SizeBeforeHeading());
  for (;;) {
    const std::string_view open = known.substr(static_cast<size_t>(sentence_begin_));
    const std::vector<query::ByteRange> sentences = query::SplitSentences(open);
    if (sentences.size() < 2) break;
    const int64_t begin = sentence_begin_;
    sentence_begin_ = begin + sentences[1].begin;
    CiteSentence({.begin = begin + sentences[0].begin, .end = begin + sentences[0].end});
  }
  const int64_t end = SettledSize(known);
  if (end <= num_written_) return;
  Write(std::string_view(plain_).substr(static_cast<size_t>(num_written_),
                                        static_cast<size_t>(end - num_written_)));
  num_written_ = end;
}

size_t AnswerWriter::SizeBeforeHeading() {
  // Only what is not written can change.
  const auto from = static_cast<size_t>(std::max<int64_t>(num_written_ - 1, 0));
  const size_t last_line = plain_.rfind('\n');
  size_t held = plain_.size();
  for (const CitedPassage& passage : citer_.passages()) {
    if (passage.heading.empty()) continue;
    const std::string line = "\n" + passage.heading + "\n";
    if (const size_t found = plain_.find(line, from); found != std::string::npos) {
      plain_.resize(found);
      is_over_ = true;
      return found;
    }
    const bool may_become_one = last_line != std::string::npos && last_line >= from &&
                                line.starts_with(std::string_view(plain_).substr(last_line));
    if (may_become_one) held = last_line;
  }
  return held;
}

void AnswerWriter::CiteSentence(query::ByteRange sentence) {
  if (sentence.end > num_written_) {
    Write(std::string_view(plain_).substr(static_cast<size_t>(num_written_),
                                          static_cast<size_t>(sentence.end - num_written_)));
    num_written_ = sentence.end;
  }
  // Behind the sentence only marks that were not told from its words can have been written.
  const int64_t text_end = static_cast<int64_t>(text_.size()) - (num_written_ - sentence.end);
  std::string numbers;
  for (Citation& citation : citer_.Cite(plain_, sentence)) {
    const auto same = std::ranges::find_if(citations_, [&citation](const Citation& known) {
      return known.passage == citation.passage && known.quote == citation.quote;
    });
    const auto index = same - citations_.begin();
    if (same == citations_.end()) {
      citation.answer = {.begin = text_end - sentence.size(), .end = text_end};
      citations_.push_back(std::move(citation));
    }
    numbers += "[" + std::to_string(index + 1) + "]";
  }
  if (!numbers.empty()) Write(" " + numbers);
}

void AnswerWriter::Finish() {
  Append(decoder_.Finish());
  const std::string_view open =
      std::string_view(plain_).substr(static_cast<size_t>(sentence_begin_));
  for (const query::ByteRange& sentence : query::SplitSentences(open)) {
    CiteSentence(
        {.begin = sentence_begin_ + sentence.begin, .end = sentence_begin_ + sentence.end});
  }
}

void AnswerWriter::Write(std::string_view piece) {
  text_.append(piece);
  if (sink_ != nullptr) sink_->Write(piece);
}

}  // namespace intarsia::engine
