// Vocabulary: the tokens of a model: their texts, types, pieces and special roles.
//
// Decides which tokens are special, that is, never come out of user text: control and unknown
// tokens, and tokens that look like control tokens ("<|im_end|>") though the file calls them
// something else. Finds in a text the tokens that are cut out before any merging.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "model/string_pool.h"
#include "model/tokenizer.h"

namespace intarsia::model {

// In the numbering of tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,  // Cut out of any text before it is tokenised.
  kUnused = 5,
  kByte = 6,  // "<0x0A>": one byte.
};

// How the text of a normal token says which bytes it stands for.
enum class PieceCoding : uint8_t {
  kByteAlphabet,   // As in byte_alphabet.h.
  kSentencePiece,  // U+2581 is a blank.
  kVerbatim,
};

struct VocabularySpec {
  PieceCoding coding = PieceCoding::kVerbatim;
  std::vector<std::string_view> texts;
  std::vector<TokenType> types;  // [texts.size()].
  // kNoToken or an id below texts.size().
  int32_t bos_id = kNoToken;
  int32_t eos_id = kNoToken;
  int32_t eot_id = kNoToken;  // If kNoToken, it is looked for by its usual names.
  int32_t unk_id = kNoToken;
  bool adds_bos = false;
  bool adds_space_prefix = false;
};

class Vocabulary {
 public:
  // `salt` is the digest of everything else that the tokenizer's result depends on.
  // Errors: kCorruption if there is no token, one is longer than 1 KiB, or those that are cut out
  // of text are longer than 4 MiB together.
  static Result<std::unique_ptr<const Vocabulary>> Create(const VocabularySpec& spec,
                                                          const Digest& salt);

  int32_t size() const { return texts_.size(); }
  std::string_view text(int32_t id) const { return texts_.Get(id); }
  std::string_view piece(int32_t id) const { return pieces_.Get(id); }
  TokenType type(int32_t id) const { return types_[static_cast<size_t>(id)]; }
  bool is_special(int32_t id) const { return is_special_[static_cast<size_t>(id)]; }

  // The first token with this text, or kNoToken.
  int32_t Find(std::string_view text) const { return texts_.Find(text); }
  // The same, but kNoToken also for a special one.
  int32_t FindPlain(std::string_view text) const;

  // Calls `emit` with the parts of `text` in order: for a token that is cut out, its range and id;
  // for a range between them, kNoToken. Among overlapping tokens the longest wins, then the first.
  void Partition(std::string_view text, SpecialTokens special_tokens,
                 const std::function<void(TokenRange, int32_t)>& emit) const;

  int32_t bos_id() const { return bos_id_; }
  int32_t eos_id() const { return eos_id_; }
  int32_t eot_id() const { return eot_id_; }
  int32_t unk_id() const { return unk_id_; }
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }
  bool adds_bos() const { return adds_bos_; }
  bool adds_space_prefix() const { return adds_space_prefix_; }
  const Digest& digest() const { return digest_; }

 private:
  struct Match {
    int64_t begin;
    int64_t end;
    int32_t id;
  };

  Vocabulary() = default;
  void FindRoles(const VocabularySpec& spec);
  void AddToTrie(int32_t id);
  int64_t CollectMatches(std::string_view text, int64_t begin, SpecialTokens special_tokens,
                         std::vector<Match>* matches) const;

  // Immutable after construction.
  StringPool texts_;
  StringPool pieces_;
  std::vector<TokenType> types_;
  std::vector<bool> is_special_;
  // The trie of the tokens that are cut out: node and byte to node; node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> trie_;
  std::vector<int32_t> trie_ids_ = {kNoToken};
  std::vector<bool> trie_first_bytes_ = std::vector<bool>(256);
  int32_t bos_id_ = kNoToken;
  int32_t eos_id_ = kNoToken;
  int32_t eot_id_ = kNoToken;
  int32_t unk_id_ = kNoToken;
  std::vector<int32_t> stop_ids_;
  bool adds_bos_ = false;
  bool adds_space_prefix_ = false;
  Digest digest_;
};

}  // namespace intarsia::model
