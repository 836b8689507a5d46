#include "model/chat_format.h"

#include <array>

namespace intarsia::model {
namespace {

// How a family writes a turn: `begin`, the role's name, `after_role`, the text, `end`.
struct Markup {
  ChatFamily family;
  std::string_view begin;
  std::string_view after_role;
  std::string_view end;
  std::string_view line_break;  // After `end`.
  std::string_view assistant;   // The name of the assistant's role.
  std::string_view name;        // For messages.
};

constexpr std::array<Markup, 3> kMarkups = {{
    {ChatFamily::kChatMl, "<|im_start|>", "\n", "<|im_end|>", "\n", "assistant", "ChatML"},
    {ChatFamily::kLlama3, "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "",
     "assistant", "Llama 3"},
    {ChatFamily::kGemma, "<start_of_turn>", "\n", "<end_of_turn>", "\n", "model", "Gemma"},
}};

constexpr std::string_view kTemplateKey = "tokenizer.chat_template";
// In a template that can switch thoughts off, and what it then writes.
constexpr std::string_view kThinkingSwitch = "enable_thinking";
constexpr std::string_view kEmptyThoughts = "<think>\n\n</think>\n\n";

const Markup* MarkupOf(ChatFamily family) {
  for (const Markup& markup : kMarkups) {
    if (markup.family == family) return &markup;
  }
  return nullptr;
}

void Append(SpecialTokens special_tokens, std::string_view text, std::vector<PromptPiece>* pieces) {
  if (text.empty()) return;
  if (special_tokens == SpecialTokens::kParse && !pieces->empty() &&
      pieces->back().special_tokens == SpecialTokens::kParse) {
    pieces->back().text.append(text);
  } else {
    pieces->push_back({special_tokens, std::string(text)});
  }
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

bool HasToken(const Tokenizer& tokenizer, std::string_view text) {
  const int32_t id = tokenizer.FindToken(text);
  return id != kNoToken && tokenizer.IsSpecial(id);
}

bool HasMarkers(const Tokenizer& tokenizer, const Markup& markup) {
  return HasToken(tokenizer, markup.begin) && HasToken(tokenizer, markup.end);
}

}  // namespace

ChatFormat ChatFormat::FromFamily(ChatFamily family) { return ChatFormat(family); }

Result<ChatFormat> ChatFormat::FromGguf(const GgufFile& file, const Tokenizer& tokenizer) {
  std::string_view chat_template;
  if (file.Has(kTemplateKey)) {
    INTARSIA_ASSIGN_OR_RETURN(chat_template, file.GetString(kTemplateKey));
  }
  for (const Markup& markup : kMarkups) {
    if (chat_template.find(markup.begin) == std::string_view::npos) continue;
    if (!HasMarkers(tokenizer, markup)) {
      return Status(StatusCode::kUnsupported,
                    "chat template uses a marker that is no special token of the model: marker=" +
                        std::string(markup.begin));
    }
    ChatFormat format(markup.family);
    if (chat_template.find(kThinkingSwitch) != std::string_view::npos) {
      format.answer_prefix_ = kEmptyThoughts;
    }
    return format;
  }
  const std::string reason = chat_template.empty() ? "the model file has no chat template"
                                                   : "the model's chat template is not known";
  for (const Markup& markup : kMarkups) {
    if (!HasMarkers(tokenizer, markup)) continue;
    ChatFormat format(markup.family);
    format.notice_ = reason + "; using the " + std::string(markup.name) +
                     " format, whose markers are in its vocabulary";
    return format;
  }
  ChatFormat format(ChatFamily::kPlain);
  format.notice_ = reason + "; using plain paragraphs";
  return format;
}

void ChatFormat::AppendTurnBegin(ChatRole role, std::vector<PromptPiece>* pieces) const {
  const Markup* markup = MarkupOf(family_);
  if (markup == nullptr) return;
  const std::string_view name = role == ChatRole::kSystem ? "system"
                                : role == ChatRole::kUser ? "user"
                                                          : markup->assistant;
  Append(SpecialTokens::kParse, markup->begin, pieces);
  Append(SpecialTokens::kParse, name, pieces);
  Append(SpecialTokens::kParse, markup->after_role, pieces);
}

void ChatFormat::AppendTurnEnd(std::vector<PromptPiece>* pieces) const {
  const Markup* markup = MarkupOf(family_);
  Append(SpecialTokens::kParse, markup == nullptr ? "\n\n" : markup->end, pieces);
  if (markup != nullptr) Append(SpecialTokens::kParse, markup->line_break, pieces);
}

void ChatFormat::AppendAnswerBegin(std::vector<PromptPiece>* pieces) const {
  if (family_ == ChatFamily::kPlain) {
    Append(SpecialTokens::kParse, "Answer:", pieces);
    return;
  }
  AppendTurnBegin(ChatRole::kAssistant, pieces);
  Append(SpecialTokens::kParse, answer_prefix_, pieces);
}

void ChatFormat::AppendSystem(std::string_view system, std::vector<PromptPiece>* pieces) const {
  system = Trim(system);
  if (system.empty()) return;
  if (family_ == ChatFamily::kGemma) {  // Inside the user's turn, which has begun.
    Append(SpecialTokens::kAsText, system, pieces);
    Append(SpecialTokens::kParse, "\n\n", pieces);
    return;
  }
  AppendTurnBegin(ChatRole::kSystem, pieces);
  Append(SpecialTokens::kAsText, system, pieces);
  AppendTurnEnd(pieces);
}

std::vector<PromptPiece> ChatFormat::HeaderPieces(std::string_view system,
                                                  std::string_view user_prefix) const {
  std::vector<PromptPiece> pieces;
  if (family_ != ChatFamily::kGemma) AppendSystem(system, &pieces);
  AppendTurnBegin(ChatRole::kUser, &pieces);
  if (family_ == ChatFamily::kGemma) AppendSystem(system, &pieces);
  Append(SpecialTokens::kAsText, user_prefix, &pieces);
  return pieces;
}

std::vector<PromptPiece> ChatFormat::TailPieces(std::string_view user_suffix) const {
  std::vector<PromptPiece> pieces;
  Append(SpecialTokens::kAsText, user_suffix, &pieces);
  AppendTurnEnd(&pieces);
  AppendAnswerBegin(&pieces);
  return pieces;
}

Result<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                          std::span<const PromptPiece> pieces) {
  std::vector<int32_t> ids;
  for (const PromptPiece& piece : pieces) {
    INTARSIA_ASSIGN_OR_RETURN(const auto piece_ids,
                              tokenizer.Encode(piece.text, piece.special_tokens));
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
  }
  return ids;
}

Result<std::vector<int32_t>> ChatFormat::EncodeHeader(const Tokenizer& tokenizer,
                                                      std::string_view system,
                                                      std::string_view user_prefix) const {
  INTARSIA_ASSIGN_OR_RETURN(auto ids, EncodePieces(tokenizer, HeaderPieces(system, user_prefix)));
  if (tokenizer.adds_bos()) ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

Result<std::vector<int32_t>> ChatFormat::EncodeTail(const Tokenizer& tokenizer,
                                                    std::string_view user_suffix) const {
  return EncodePieces(tokenizer, TailPieces(user_suffix));
}

}  // namespace intarsia::model
