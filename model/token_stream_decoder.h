// TokenStreamDecoder: generated tokens to text, as they come.
//
// A token may end in the middle of a code point. Its bytes are held back until the code point is
// whole, so what Push returns is always well-formed and can be shown at once. Bytes that can no
// longer become a code point come out as U+FFFD. All that is returned, joined, equals
// Tokenizer::Decode of all ids.
//
// Thread safety: owned by one thread.
// Lifetime: the tokenizer must outlive the decoder.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "model/tokenizer.h"

namespace intarsia::model {

class TokenStreamDecoder {
 public:
  explicit TokenStreamDecoder(const Tokenizer* tokenizer);

  // The text that `id` completes, often empty.
  // Errors: kInvalidArgument if `id` is outside the vocabulary; the decoder is unchanged.
  Result<std::string> Push(int32_t id);
  // What was held back, repaired. Call it after the last id; then the decoder starts anew.
  std::string Finish();

  // Bytes returned so far.
  int64_t num_bytes() const { return num_bytes_; }
  // Bytes held back: the token that is pushed next begins num_bytes() + num_bytes_pending() bytes
  // into the text, unless a repair intervenes.
  int64_t num_bytes_pending() const { return static_cast<int64_t>(pending_.size()); }

 private:
  std::string Take(int64_t length);

  const Tokenizer* tokenizer_;
  std::string pending_;
  int64_t num_bytes_ = 0;
  bool is_at_start_ = true;
};

}  // namespace intarsia::model
