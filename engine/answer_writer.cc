#include "engine/answer_writer.h"

#include <algorithm>
#include <utility>

#include "engine/answerer.h"
#include "query/sentences.h"

namespace intarsia::engine {

AnswerWriter::AnswerWriter(const model::Tokenizer& tokenizer, const Citer& citer, TokenSink* sink)
    : decoder_(&tokenizer), citer_(citer), sink_(sink) {}

Status AnswerWriter::Push(int32_t token) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string piece, decoder_.Push(token));
  Append(piece);
  return Status::Ok();
}

void AnswerWriter::Append(std::string_view piece) {
  if (plain_.empty()) piece.remove_prefix(std::min(piece.find_first_not_of(" \n"), piece.size()));
  plain_.append(piece);
  for (;;) {
    const std::string_view open =
        std::string_view(plain_).substr(static_cast<size_t>(sentence_begin_));
    const std::vector<query::ByteRange> sentences = query::SplitSentences(open);
    if (sentences.size() < 2) break;
    const int64_t begin = sentence_begin_;
    sentence_begin_ = begin + sentences[1].begin;
    CiteSentence({.begin = begin + sentences[0].begin, .end = begin + sentences[0].end});
  }
  const size_t last = plain_.find_last_not_of(" \n");
  const auto end = static_cast<int64_t>(last == std::string::npos ? 0 : last + 1);
  if (end <= num_written_) return;
  Write(std::string_view(plain_).substr(static_cast<size_t>(num_written_),
                                        static_cast<size_t>(end - num_written_)));
  num_written_ = end;
}

void AnswerWriter::CiteSentence(query::ByteRange sentence) {
  if (sentence.end > num_written_) {
    Write(std::string_view(plain_).substr(static_cast<size_t>(num_written_),
                                          static_cast<size_t>(sentence.end - num_written_)));
    num_written_ = sentence.end;
  }
  const auto text_end = static_cast<int64_t>(text_.size());
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
