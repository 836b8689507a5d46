// ChatFormat: how a model wants the turns of a prompt written: the system's, the user's, its own.
//
// A model file carries its format as a Jinja template. The families that we run use four formats,
// which are recognised by their markers and written here directly; nothing of a template is
// executed: a default system prompt or a date that a template would add is not. A prompt is a list
// of pieces, each template text, in which markers become tokens, or user text, in which they do
// not. Pieces are encoded one by one, so the ids of a piece never depend on its neighbours, and ids
// of pieces can be joined, stored and reused.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace intarsia::model {

enum class ChatFamily : uint8_t {
  kChatMl,  // <|im_start|>role ... <|im_end|>: SmolLM2, Qwen2, Qwen2.5, Qwen3.
  kLlama3,  // <|start_header_id|>role<|end_header_id|> ... <|eot_id|>.
  kGemma,   // <start_of_turn>role ... <end_of_turn>; no system role.
  kPlain,   // No markers, for models without a chat format: paragraphs, then "Answer:".
};

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant };

struct PromptPiece {
  SpecialTokens special_tokens;  // kParse: template text. kAsText: user text.
  std::string text;
  bool operator==(const PromptPiece&) const = default;
};

class ChatFormat {
 public:
  // The format for the model in `file`: by the markers in tokenizer.chat_template; without one, by
  // the markers in the vocabulary; else kPlain. notice() says so where the model does not.
  // Errors: kUnsupported if the template's markers are no tokens of `tokenizer`.
  static Result<ChatFormat> FromGguf(const GgufFile& file, const Tokenizer& tokenizer);
  // A format by its family, for tests and for models chosen by hand.
  static ChatFormat FromFamily(ChatFamily family);

  ChatFamily family() const { return family_; }
  // A sentence for the user if the format was guessed; empty otherwise.
  const std::string& notice() const { return notice_; }

  // What stands before the chunks of a prompt: the system's turn, and the user's turn up to and
  // with `user_prefix`. The beginning-of-sequence token is not a piece: EncodeHeader adds it.
  std::vector<PromptPiece> HeaderPieces(std::string_view system,
                                        std::string_view user_prefix) const;
  // What stands after the chunks: `user_suffix`, the end of the user's turn and the beginning of
  // the assistant's.
  std::vector<PromptPiece> TailPieces(std::string_view user_suffix) const;

  // The ids of the pieces above. The header begins with the tokenizer's beginning-of-sequence token
  // if it adds one.
  // Errors: those of Tokenizer::Encode.
  Result<std::vector<int32_t>> EncodeHeader(const Tokenizer& tokenizer, std::string_view system,
                                            std::string_view user_prefix) const;
  Result<std::vector<int32_t>> EncodeTail(const Tokenizer& tokenizer,
                                          std::string_view user_suffix) const;

 private:
  explicit ChatFormat(ChatFamily family) : family_(family) {}

  void AppendTurnBegin(ChatRole role, std::vector<PromptPiece>* pieces) const;
  void AppendTurnEnd(std::vector<PromptPiece>* pieces) const;
  void AppendSystem(std::string_view system, std::vector<PromptPiece>* pieces) const;
  void AppendAnswerBegin(std::vector<PromptPiece>* pieces) const;

  ChatFamily family_;
  // Template text that ends the beginning of the assistant's turn: an empty block of thoughts, for
  // models that would otherwise think aloud before they answer.
  std::string answer_prefix_;
  std::string notice_;
};

// The ids of `pieces`, each encoded on its own.
// Errors: those of Tokenizer::Encode.
Result<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                          std::span<const PromptPiece> pieces);

}  // namespace intarsia::model
