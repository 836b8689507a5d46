// Tiny tokenizers: model files that hold nothing but a small vocabulary.
//
// TinyBpeFile: byte-level BPE. Tokens 0 to 255 are the bytes; then come merged tokens, special ones
// and a user-defined one. TinySentencePieceFile: scores and byte tokens, in the manner of Gemma.
//
// Thread safety: functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/byte_alphabet.h"
#include "tests/model/gguf_builder.h"

namespace intarsia::model {

// `text` in the byte alphabet, as vocabularies of byte-level BPE have it.
inline std::string InByteAlphabet(std::string_view text) {
  std::string encoded;
  for (const char byte : text) {
    const char32_t code_point = ByteAlphabetCodePoint(static_cast<uint8_t>(byte));
    if (code_point < 0x80) {
      encoded.push_back(static_cast<char>(code_point));
    } else {
      encoded.push_back(static_cast<char>(0xC0 | code_point >> 6));
      encoded.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
    }
  }
  return encoded;
}

struct TinyBpe {
  std::string pre_tokenizer = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<double> types;
  std::vector<std::string> merges;
  double eos_id = -1;

  TinyBpe() {
    for (int32_t byte = 0; byte < 256; ++byte) {
      Add(InByteAlphabet(std::string(1, static_cast<char>(byte))), 1);
    }
    AddMerge("h", "e");
    AddMerge("l", "l");
    AddMerge("he", "ll");
    AddMerge(" ", "he");
    AddMerge("a", "a");
    AddMerge("aa", "a");
    AddMerge("\xC3", "\xA9");  // U+00E9
    Add("<|im_start|>", 3);
    eos_id = Add("<|im_end|>", 3);
    Add("<tag>", 4);
  }

  // The id of the new token.
  int32_t Add(std::string_view token, int32_t type) {
    tokens.emplace_back(token);
    types.push_back(type);
    return static_cast<int32_t>(tokens.size()) - 1;
  }
  int32_t AddMerge(std::string_view left, std::string_view right) {
    merges.push_back(InByteAlphabet(left) + " " + InByteAlphabet(right));
    return Add(InByteAlphabet(std::string(left) + std::string(right)), 1);
  }
  GgufBuilder Builder() const {
    GgufBuilder builder;
    builder.AddString("tokenizer.ggml.model", "gpt2")
        .AddString("tokenizer.ggml.pre", pre_tokenizer)
        .AddStrings("tokenizer.ggml.tokens", tokens)
        .AddNumbers("tokenizer.ggml.token_type", GgufValueType::kInt32, types)
        .AddStrings("tokenizer.ggml.merges", merges)
        .AddUint32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(eos_id));
    return builder;
  }
};

struct TinySentencePiece {
  std::vector<std::string> tokens;
  std::vector<double> types;
  std::vector<double> scores;
  double adds_space_prefix = 1;

  TinySentencePiece() {
    Add("<unk>", 2, 0);
    Add("<bos>", 3, 0);
    Add("<eos>", 3, 0);
    for (int32_t byte = 0; byte < 256; ++byte) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      const auto value = static_cast<size_t>(byte);
      Add(std::string("<0x") + kDigits[value >> 4] + kDigits[value & 15] + ">", 6, 0);
    }
    for (const char* token : {"\u2581", "a", "b", "c", "ab", "bc", "\u2581a", "\u2581ab", "abc"}) {
      Add(token, 1, -static_cast<double>(tokens.size()));
    }
    Add("\n\n", 4, -1000);
    Add("\n\n\n", 4, -1000);
    Add("<start_of_turn>", 3, -1000);
    Add("<end_of_turn>", 3, -1000);
  }

  int32_t Add(std::string_view token, int32_t type, double score) {
    tokens.emplace_back(token);
    types.push_back(type);
    scores.push_back(score);
    return static_cast<int32_t>(tokens.size()) - 1;
  }
  GgufBuilder Builder() const {
    GgufBuilder builder;
    builder.AddString("tokenizer.ggml.model", "llama")
        .AddStrings("tokenizer.ggml.tokens", tokens)
        .AddNumbers("tokenizer.ggml.token_type", GgufValueType::kInt32, types)
        .AddNumbers("tokenizer.ggml.scores", GgufValueType::kFloat32, scores)
        .AddNumber("tokenizer.ggml.add_space_prefix", GgufValueType::kBool, adds_space_prefix);
    return builder;
  }
};

}  // namespace intarsia::model
