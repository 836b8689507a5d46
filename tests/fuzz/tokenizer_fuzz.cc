#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "model/chat_format.h"
#include "model/gguf.h"
#include "model/token_stream_decoder.h"
#include "model/tokenizer.h"
#include "model/wordpiece_tokenizer.h"
#include "tests/fuzz/fuzz_driver.h"
#include "tests/model/tiny_tokenizers.h"

// An input is a text, a zero byte, and a vocabulary: a GGUF file, or else the lines of a vocab.txt.
namespace intarsia::fuzz {
namespace {

using model::SpecialTokens;
using model::Tokenizer;

void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, SpecialTokens::kAsText);
  INTARSIA_CHECK(ids.ok());
  model::TokenStreamDecoder stream(&tokenizer);
  std::string streamed;
  for (const int32_t id : *ids) {
    INTARSIA_CHECK(id >= 0 && id < tokenizer.vocab_size());
    INTARSIA_CHECK(!tokenizer.IsSpecial(id) || id == tokenizer.unk_id());
    streamed += *stream.Push(id);
  }
  streamed += stream.Finish();
  const auto decoded = tokenizer.Decode(*ids);
  INTARSIA_CHECK(decoded.ok() && FindInvalidUtf8(*decoded) < 0 && FindInvalidUtf8(streamed) < 0);
  const auto encoded = tokenizer.EncodeWithRanges(text);
  INTARSIA_CHECK(encoded.ok() == (FindInvalidUtf8(text) < 0));
  if (encoded.ok()) {
    INTARSIA_CHECK(encoded->ids == *ids);
    int64_t begin = 0;
    for (const model::TokenRange range : encoded->ranges) {
      INTARSIA_CHECK(range.begin >= begin && range.end >= range.begin);
      INTARSIA_CHECK(range.end <= static_cast<int64_t>(text.size()));
      begin = range.begin;
    }
  }
  const auto parsed = tokenizer.Encode(text, SpecialTokens::kParse);
  INTARSIA_CHECK(parsed.ok() && tokenizer.Decode(*parsed).ok());
}

}  // namespace

Corpus Seeds() {
  Corpus corpus;
  const std::vector<std::string> texts = {
      "Hello hello, it's 12345 <tag>\n\n\n\n x\r\n", "<|im_start|>user\nabc ab\u2581c<|im_end|>",
      "\u00e9\u4e2d\U0001F600\u0301 [CLS] unaffable", std::string(300, 'a') + "\xFF\xC3\xE4\xB8"};
  for (const char* rule : {"gpt-2", "smollm", "qwen2", "llama-bpe", "default"}) {
    model::TinyBpe tiny;
    tiny.pre_tokenizer = rule;
    for (const std::string& text : texts) {
      corpus.inputs.push_back(text + '\0' + tiny.Builder().Build());
    }
  }
  for (const std::string& text : texts) {
    corpus.inputs.push_back(text + '\0' + model::TinySentencePiece().Builder().Build());
    corpus.inputs.push_back(text + '\0' +
                            "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\nh\n##i\n");
  }
  corpus.words = {"<|im_end|>", "<tag>", "\n\n", " ", "\u2581", "<0xC3>", "##", "[UNK]\n", "'ll"};
  return corpus;
}

}  // namespace intarsia::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace intarsia;  // NOLINT(google-build-using-namespace): one function.
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(0, end);
  const std::string_view rest = input.substr(std::min(end + 1, input.size()));
  if (!rest.starts_with("GGUF")) {
    const auto tokenizer = model::WordPieceTokenizer::Load(rest, {});
    if (tokenizer.ok()) fuzz::CheckText(**tokenizer, text);
    return 0;
  }
  const auto file = model::GgufFile::Parse(rest, "fuzz");
  if (!file.ok()) return 0;
  const auto tokenizer = model::LoadTokenizer(**file);
  if (!tokenizer.ok()) return 0;
  fuzz::CheckText(**tokenizer, text);
  const auto format = model::ChatFormat::FromGguf(**file, **tokenizer);
  if (format.ok()) {
    INTARSIA_CHECK(format->EncodeHeader(**tokenizer, text, text).ok());
    INTARSIA_CHECK(format->EncodeTail(**tokenizer, text).ok());
  }
  return 0;
}
