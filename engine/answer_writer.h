// AnswerWriter: generated tokens to the text of an answer, with the numbers of its citations.
//
// Text goes to the sink as it comes, but for what may belong to the next sentence: blanks at its
// end, and a mark that begins a line and may turn out to be that of a list. A sentence is known to
// be over when the next one begins, and its [n] stands right behind it.
//
// A small model sometimes does not end, but goes on to copy a passage with its heading. The answer
// is over before such a line.
//
// Thread safety: owned by one thread.
// Lifetime: the tokenizer, the citer and the sink must outlive it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/citer.h"
#include "model/token_stream_decoder.h"
#include "model/tokenizer.h"

namespace intarsia::engine {

class TokenSink;

class AnswerWriter {
 public:
  // `sink` may be null.
  AnswerWriter(const model::Tokenizer& tokenizer, const Citer& citer, TokenSink* sink);

  // Errors: kInvalidArgument if `token` is outside the vocabulary.
  Status Push(int32_t token);
  // Whether the answer has ended though the model has not; what is pushed then is lost.
  bool is_over() const { return is_over_; }
  // Writes what was held back, with the last sentence's citations.
  void Finish();

  // The bytes that the tokens so far make of the answer without numbers.
  int64_t plain_bytes() const {
    return decoder_.num_bytes() + decoder_.num_bytes_pending() - num_dropped_;
  }
  const std::string& text() const { return text_; }
  // In the order of their numbers, which begin with 1; ranges of the answer are those of text().
  const std::vector<Citation>& citations() const { return citations_; }

 private:
  void Append(std::string_view piece);
  // Where the last line of the answer begins if it may become the heading of a passage; all of
  // plain_ else. Cuts off a heading that is complete.
  size_t SizeBeforeHeading();
  void CiteSentence(query::ByteRange sentence);
  void Write(std::string_view piece);

  model::TokenStreamDecoder decoder_;
  const Citer& citer_;
  TokenSink* const sink_;
  std::string plain_;           // without numbers
  int64_t num_dropped_ = 0;     // blanks before it
  int64_t num_written_ = 0;     // bytes of plain_ that are in text_
  int64_t sentence_begin_ = 0;  // of plain_, the sentence that is not yet over
  bool is_over_ = false;
  std::string text_;
  std::vector<Citation> citations_;
};

}  // namespace intarsia::engine
