#include <optional>
#include <string>
#include <utility>

#include "model/bpe_tokenizer.h"
#include "model/pre_tokenizer.h"
#include "model/sentencepiece_tokenizer.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

namespace intarsia::model {
namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kPreTokenizerKey = "tokenizer.ggml.pre";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr size_t kNumTokensMax = size_t{1} << 24;

Status WithKey(const Status& status, std::string_view key) {
  return Status(status.code(), "cannot read the tokenizer of the model file: key=" +
                                   std::string(key) + ": " + std::string(status.message()));
}

Status CheckLength(std::string_view key, size_t length, size_t num_tokens) {
  if (length >= num_tokens) return Status::Ok();
  return Status(StatusCode::kCorruption,
                "vocabulary list is shorter than the vocabulary: key=" + std::string(key) +
                    " length=" + std::to_string(length) + " tokens=" + std::to_string(num_tokens));
}

TokenType TokenTypeOf(int64_t number) {
  const bool is_known = number >= 0 && number <= static_cast<int64_t>(TokenType::kByte);
  return is_known ? static_cast<TokenType>(number) : TokenType::kUndefined;
}

Result<std::vector<TokenType>> ReadTypes(const GgufFile& file, size_t num_tokens) {
  if (!file.Has(kTypesKey)) return std::vector<TokenType>(num_tokens, TokenType::kNormal);
  const auto numbers = file.GetInts(kTypesKey);
  if (!numbers.ok()) return WithKey(numbers.status(), kTypesKey);
  INTARSIA_RETURN_IF_ERROR(CheckLength(kTypesKey, numbers->size(), num_tokens));
  std::vector<TokenType> types;
  types.reserve(num_tokens);
  for (size_t i = 0; i < num_tokens; ++i) types.push_back(TokenTypeOf((*numbers)[i]));
  return types;
}

// The id under `key`, or `otherwise` where there is none. An id outside the vocabulary counts as
// none: converters write such for tokens that a model does not have.
Result<int32_t> ReadId(const GgufFile& file, std::string_view key, int32_t otherwise,
                       size_t num_tokens) {
  int64_t id = otherwise;
  if (file.Has(key)) {
    const auto read = file.GetInt(key);
    if (!read.ok()) return WithKey(read.status(), key);
    id = *read;
  }
  return id >= 0 && id < static_cast<int64_t>(num_tokens) ? static_cast<int32_t>(id) : kNoToken;
}

enum class Flag : uint8_t { kOff, kOn };

Result<bool> ReadFlag(const GgufFile& file, std::string_view key, Flag otherwise) {
  if (!file.Has(key)) return otherwise == Flag::kOn;
  const auto read = file.GetInt(key);
  if (!read.ok()) return WithKey(read.status(), key);
  return *read != 0;
}

// What the two kinds of tokenizer assume where a file is silent.
struct Defaults {
  int32_t bos_id = kNoToken;
  int32_t eos_id = kNoToken;
  int32_t unk_id = kNoToken;
  Flag adds_bos = Flag::kOff;
};

Result<VocabularySpec> ReadSpec(const GgufFile& file, const Defaults& defaults) {
  VocabularySpec spec;
  auto texts = file.GetStrings(kTokensKey);
  if (!texts.ok()) return WithKey(texts.status(), kTokensKey);
  spec.texts = *std::move(texts);
  const size_t num_tokens = spec.texts.size();
  if (num_tokens > kNumTokensMax) {
    return Status(StatusCode::kUnsupported,
                  "vocabulary is too large: tokens=" + std::to_string(num_tokens) +
                      " max=" + std::to_string(kNumTokensMax));
  }
  INTARSIA_ASSIGN_OR_RETURN(spec.types, ReadTypes(file, num_tokens));
  INTARSIA_ASSIGN_OR_RETURN(
      spec.bos_id, ReadId(file, "tokenizer.ggml.bos_token_id", defaults.bos_id, num_tokens));
  INTARSIA_ASSIGN_OR_RETURN(
      spec.eos_id, ReadId(file, "tokenizer.ggml.eos_token_id", defaults.eos_id, num_tokens));
  INTARSIA_ASSIGN_OR_RETURN(spec.eot_id,
                            ReadId(file, "tokenizer.ggml.eot_token_id", kNoToken, num_tokens));
  INTARSIA_ASSIGN_OR_RETURN(
      spec.unk_id, ReadId(file, "tokenizer.ggml.unknown_token_id", defaults.unk_id, num_tokens));
  INTARSIA_ASSIGN_OR_RETURN(spec.adds_bos,
                            ReadFlag(file, "tokenizer.ggml.add_bos_token", defaults.adds_bos));
  return spec;
}

Result<std::unique_ptr<Tokenizer>> LoadByteLevel(const GgufFile& file) {
  std::string_view name = "default";
  if (file.Has(kPreTokenizerKey)) {
    const auto read = file.GetString(kPreTokenizerKey);
    if (!read.ok()) return WithKey(read.status(), kPreTokenizerKey);
    name = *read;
  }
  const std::optional<PreTokenizer> pre_tokenizer = PreTokenizerByName(name);
  if (!pre_tokenizer) {
    return Status(StatusCode::kUnsupported,
                  "pre-tokenizer is not supported; known are default, gpt-2, smollm, qwen2 and "
                  "llama-bpe: name=" +
                      std::string(name.substr(0, 64)));
  }
  Defaults defaults;
  defaults.adds_bos = *pre_tokenizer == PreTokenizer::kLlama3 ? Flag::kOn : Flag::kOff;
  INTARSIA_ASSIGN_OR_RETURN(VocabularySpec spec, ReadSpec(file, defaults));
  spec.coding = PieceCoding::kByteAlphabet;
  const auto merges = file.GetStrings(kMergesKey);
  if (!merges.ok()) return WithKey(merges.status(), kMergesKey);
  return BpeTokenizer::Create(spec, *merges, *pre_tokenizer);
}

Result<std::unique_ptr<Tokenizer>> LoadSentencePiece(const GgufFile& file) {
  Defaults defaults;
  defaults.unk_id = 0;
  defaults.bos_id = 1;
  defaults.eos_id = 2;
  defaults.adds_bos = Flag::kOn;
  INTARSIA_ASSIGN_OR_RETURN(VocabularySpec spec, ReadSpec(file, defaults));
  spec.coding = PieceCoding::kSentencePiece;
  INTARSIA_ASSIGN_OR_RETURN(spec.adds_space_prefix,
                            ReadFlag(file, "tokenizer.ggml.add_space_prefix", Flag::kOn));
  const auto scores = file.GetFloats(kScoresKey);
  if (!scores.ok()) return WithKey(scores.status(), kScoresKey);
  INTARSIA_RETURN_IF_ERROR(CheckLength(kScoresKey, scores->size(), spec.texts.size()));
  return SentencePieceTokenizer::Create(spec, std::span(*scores).subspan(0, spec.texts.size()));
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const GgufFile& file) {
  const auto kind = file.GetString(kModelKey);
  if (!kind.ok()) return WithKey(kind.status(), kModelKey);
  if (*kind == "gpt2") return LoadByteLevel(file);
  if (*kind == "llama") return LoadSentencePiece(file);
  return Status(StatusCode::kUnsupported,
                "tokenizer is not supported; known are gpt2 and llama: tokenizer.ggml.model=" +
                    std::string(kind->substr(0, 64)));
}

}  // namespace intarsia::model
