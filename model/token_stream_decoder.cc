#include "model/token_stream_decoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/utf8.h"

namespace intarsia::model {
namespace {

// The bytes that the sequence beginning with `lead` should have; 1 for what begins none.
int64_t SequenceLength(uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 1;
}

// The length of `bytes` without a code point at its end that is still short of bytes.
int64_t LengthOfWhole(std::string_view bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  for (int64_t back = 1; back <= std::min<int64_t>(size, 3); ++back) {
    const auto byte = static_cast<uint8_t>(bytes[static_cast<size_t>(size - back)]);
    if ((byte & 0xC0) == 0x80) continue;
    return SequenceLength(byte) > back ? size - back : size;
  }
  return size;
}

}  // namespace

TokenStreamDecoder::TokenStreamDecoder(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

Result<std::string> TokenStreamDecoder::Push(int32_t id) {
  if (id < 0 || id >= tokenizer_->vocab_size()) {
    return Status(StatusCode::kInvalidArgument,
                  "token id is outside the vocabulary: id=" + std::to_string(id) +
                      " size=" + std::to_string(tokenizer_->vocab_size()));
  }
  std::string_view piece = tokenizer_->Piece(id);
  if (is_at_start_ && !piece.empty()) {
    if (tokenizer_->adds_space_prefix() && piece.starts_with(' ')) piece.remove_prefix(1);
    is_at_start_ = false;
  }
  pending_.append(piece);
  return Take(LengthOfWhole(pending_));
}

std::string TokenStreamDecoder::Finish() {
  std::string text = Take(num_bytes_pending());
  is_at_start_ = true;
  num_bytes_ = 0;
  return text;
}

std::string TokenStreamDecoder::Take(int64_t length) {
  std::string text = pending_.substr(0, static_cast<size_t>(length));
  pending_.erase(0, static_cast<size_t>(length));
  if (FindInvalidUtf8(text) >= 0) text = RepairUtf8(text, nullptr);
  num_bytes_ += static_cast<int64_t>(text.size());
  return text;
}

}  // namespace intarsia::model
