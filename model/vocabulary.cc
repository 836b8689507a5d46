#include "model/vocabulary.h"

#include <algorithm>
#include <array>
#include <optional>

#include "model/byte_alphabet.h"

namespace intarsia::model {
namespace {

constexpr size_t kTokenBytesMax = 1024;
// Of all tokens that are cut out together; the trie takes some fifty times as much.
constexpr int64_t kCutOutBytesMax = int64_t{4} << 20;
constexpr std::string_view kBlankMark = "\u2581";
// A run of overlapping matches is decided as a whole, unless it is longer than this: then in parts,
// so that a file of newlines needs no memory for each way to divide it.
constexpr int64_t kClusterBytesMax = int64_t{64} << 10;
// The same for its matches, of which a hostile file can make a thousand begin at each byte. Runs of
// newlines and blanks, of which vocabularies have tokens up to 31 long, stay within both.
constexpr size_t kClusterMatchesMax = size_t{2} << 20;

// Names of tokens that end a turn, the most specific first.
constexpr std::array<std::string_view, 10> kEndOfTurnNames = {
    "<|eot_id|>", "<|im_end|>",         "<end_of_turn>", "<|end|>", "<|end_of_text|>",
    "<EOT>",      "<end_of_utterance>", "<|endoftext|>", "_<EOT>",  "[EOT]"};
// Names of tokens after which a model has nothing more to say, besides these.
constexpr std::array<std::string_view, 16> kOtherStopNames = {
    "<|eom_id|>", "<eos>",        "<|return|>",   "<|call|>",   "<|fim_pad|>",   "<fim-pad>",
    "<fim_pad>",  "<PAD>",        "<|fim_repo|>", "<fim-repo>", "<|repo_name|>", "<REPO>",
    "<reponame>", "<|file_sep|>", "[EOS]",        "[e~["};
// Names of further tokens that steer a model, for files that give them an ordinary type.
constexpr std::array<std::string_view, 4> kSteeringNames = {"<start_of_turn>", "<start_of_image>",
                                                            "<end_of_image>", "[multimodal]"};

template <size_t kSize>
bool Contains(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool LooksSpecial(std::string_view text) {
  const bool has_bars = text.size() > 4 && text.starts_with("<|") && text.ends_with("|>");
  return has_bars || Contains(kEndOfTurnNames, text) || Contains(kOtherStopNames, text) ||
         Contains(kSteeringNames, text);
}

std::optional<uint8_t> HexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return static_cast<uint8_t>(digit - '0');
  if (digit >= 'A' && digit <= 'F') return static_cast<uint8_t>(digit - 'A' + 10);
  if (digit >= 'a' && digit <= 'f') return static_cast<uint8_t>(digit - 'a' + 10);
  return std::nullopt;
}

// The byte that "<0x0A>" stands for.
std::optional<char> ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const auto high = HexDigit(text[3]);
  const auto low = HexDigit(text[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<char>(*high << 4 | *low);
}

std::string BlanksForMarks(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with(kBlankMark)) {
      result.push_back(' ');
      i += kBlankMark.size();
    } else {
      result.push_back(text[i++]);
    }
  }
  return result;
}

std::string PieceOf(std::string_view text, TokenType type, PieceCoding coding) {
  switch (type) {
    case TokenType::kUserDefined:
      return std::string(text);
    case TokenType::kByte: {
      const auto byte = ParseByteToken(text);
      return byte ? std::string(1, *byte) : std::string();
    }
    case TokenType::kNormal:
      break;
    default:
      return {};
  }
  switch (coding) {
    case PieceCoding::kByteAlphabet:
      return DecodeByteAlphabet(text).value_or(std::string(text));
    case PieceCoding::kSentencePiece:
      return BlanksForMarks(text);
    case PieceCoding::kVerbatim:
      break;
  }
  return std::string(text);
}

uint64_t TrieKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

Result<std::unique_ptr<const Vocabulary>> Vocabulary::Create(const VocabularySpec& spec,
                                                             const Digest& salt) {
  if (spec.texts.empty()) return Status(StatusCode::kCorruption, "vocabulary has no tokens");
  std::unique_ptr<Vocabulary> vocabulary(new Vocabulary());
  int64_t num_bytes = 0;
  for (size_t i = 0; i < spec.texts.size(); ++i) {
    if (spec.texts[i].size() > kTokenBytesMax) {
      return Status(StatusCode::kCorruption, "token is too long: id=" + std::to_string(i) +
                                                 " bytes=" + std::to_string(spec.texts[i].size()) +
                                                 " max=" + std::to_string(kTokenBytesMax));
    }
    num_bytes += static_cast<int64_t>(spec.texts[i].size());
  }
  const auto num_tokens = static_cast<int64_t>(spec.texts.size());
  vocabulary->texts_.Reserve(num_tokens, num_bytes);
  vocabulary->pieces_.Reserve(num_tokens, num_bytes);
  int64_t num_cut_out_bytes = 0;
  DigestBuilder digest;
  digest.Add("tokenizer 1").Add(salt.view()).Add(static_cast<int64_t>(spec.coding));
  for (size_t i = 0; i < spec.texts.size(); ++i) {
    // An empty token can be generated and means nothing; it must not be found in a text.
    const std::string_view text = spec.texts[i];
    const auto id_wanted = static_cast<int32_t>(i);
    const bool has_role = id_wanted == spec.bos_id || id_wanted == spec.eos_id ||
                          id_wanted == spec.eot_id || id_wanted == spec.unk_id;
    const bool is_special = has_role || spec.types[i] == TokenType::kControl ||
                            spec.types[i] == TokenType::kUnknown || LooksSpecial(text);
    const TokenType type =
        is_special && spec.types[i] != TokenType::kUnknown ? TokenType::kControl : spec.types[i];
    vocabulary->types_.push_back(type);
    vocabulary->is_special_.push_back(is_special);
    const int32_t id = vocabulary->texts_.Append(text);
    vocabulary->pieces_.Append(is_special ? std::string() : PieceOf(text, type, spec.coding));
    if (is_special || type == TokenType::kUserDefined) {
      num_cut_out_bytes += static_cast<int64_t>(text.size());
      if (num_cut_out_bytes > kCutOutBytesMax) {
        return Status(StatusCode::kCorruption,
                      "special and user-defined tokens are too many: bytes_max=" +
                          std::to_string(kCutOutBytesMax));
      }
      vocabulary->AddToTrie(id);
    }
    digest.Add(text).Add(static_cast<int64_t>(spec.types[i]));
  }
  vocabulary->FindRoles(spec);
  digest.Add(vocabulary->bos_id_).Add(vocabulary->eos_id_).Add(vocabulary->eot_id_);
  digest.Add(vocabulary->unk_id_).Add(int64_t{spec.adds_bos}).Add(int64_t{spec.adds_space_prefix});
  vocabulary->digest_ = digest.Finish();
  return std::unique_ptr<const Vocabulary>(std::move(vocabulary));
}

void Vocabulary::FindRoles(const VocabularySpec& spec) {
  bos_id_ = spec.bos_id;
  eos_id_ = spec.eos_id;
  eot_id_ = spec.eot_id;
  unk_id_ = spec.unk_id;
  adds_bos_ = spec.adds_bos && bos_id_ != kNoToken;
  adds_space_prefix_ = spec.adds_space_prefix;
  for (const std::string_view name : kEndOfTurnNames) {
    const int32_t id = Find(name);
    if (eot_id_ == kNoToken) eot_id_ = id;
    if (id != kNoToken) stop_ids_.push_back(id);
  }
  for (const std::string_view name : kOtherStopNames) {
    if (const int32_t id = Find(name); id != kNoToken) stop_ids_.push_back(id);
  }
  // In some vocabularies "</s>" is a tag of HTML.
  const int32_t end = Find("</s>");
  if (end != kNoToken && is_special(end)) stop_ids_.push_back(end);
  for (const int32_t id : {eos_id_, eot_id_}) {
    if (id != kNoToken) stop_ids_.push_back(id);
  }
  std::sort(stop_ids_.begin(), stop_ids_.end());
  stop_ids_.erase(std::unique(stop_ids_.begin(), stop_ids_.end()), stop_ids_.end());
}

int32_t Vocabulary::FindPlain(std::string_view text) const {
  const int32_t id = Find(text);
  return id == kNoToken || is_special(id) ? kNoToken : id;
}

void Vocabulary::AddToTrie(int32_t id) {
  const std::string_view token = text(id);
  if (token.empty()) return;
  trie_first_bytes_[static_cast<uint8_t>(token[0])] = true;
  uint32_t node = 0;
  for (const char byte : token) {
    const auto [child, is_new] =
        trie_.try_emplace(TrieKey(node, byte), static_cast<uint32_t>(trie_ids_.size()));
    if (is_new) trie_ids_.push_back(kNoToken);
    node = child->second;
  }
  if (trie_ids_[node] == kNoToken) trie_ids_[node] = id;
}

// Appends the tokens that begin at `begin`. The result is the end of the longest, or `begin`.
int64_t Vocabulary::CollectMatches(std::string_view text, int64_t begin,
                                   SpecialTokens special_tokens,
                                   std::vector<Match>* matches) const {
  int64_t end_max = begin;
  uint32_t node = 0;
  for (auto i = static_cast<size_t>(begin); i < text.size(); ++i) {
    const auto child = trie_.find(TrieKey(node, text[i]));
    if (child == trie_.end()) break;
    node = child->second;
    const int32_t id = trie_ids_[node];
    if (id == kNoToken || (special_tokens == SpecialTokens::kAsText && is_special(id))) continue;
    end_max = static_cast<int64_t>(i) + 1;
    matches->push_back({begin, end_max, id});
  }
  return end_max;
}

void Vocabulary::Partition(std::string_view text, SpecialTokens special_tokens,
                           const std::function<void(TokenRange, int32_t)>& emit) const {
  const auto size = static_cast<int64_t>(text.size());
  int64_t done = 0;  // Everything before it has been emitted.
  int64_t position = 0;
  std::vector<Match> matches;
  std::vector<Match> chosen;
  while (position < size) {
    if (!trie_first_bytes_[static_cast<uint8_t>(text[static_cast<size_t>(position)])]) {
      ++position;
      continue;
    }
    // All matches of a run in which each overlaps another.
    matches.clear();
    const int64_t cluster_begin = position;
    int64_t cluster_end = position;
    do {
      const int64_t end = CollectMatches(text, position, special_tokens, &matches);
      cluster_end = std::max(cluster_end, end);
      ++position;
    } while (position < cluster_end && position - cluster_begin < kClusterBytesMax &&
             matches.size() < kClusterMatchesMax);
    std::sort(matches.begin(), matches.end(), [](const Match& a, const Match& b) {
      const int64_t a_size = a.end - a.begin;
      const int64_t b_size = b.end - b.begin;
      return a_size != b_size ? a_size > b_size : a.begin < b.begin;
    });
    // None that was chosen is shorter, so one that overlaps covers the first byte or the last.
    std::vector<bool> covered(static_cast<size_t>(cluster_end - cluster_begin));
    chosen.clear();
    for (const Match& match : matches) {
      const auto first = static_cast<size_t>(match.begin - cluster_begin);
      const auto last = static_cast<size_t>(match.end - cluster_begin - 1);
      if (covered[first] || covered[last]) continue;
      for (size_t i = first; i <= last; ++i) covered[i] = true;
      chosen.push_back(match);
    }
    std::sort(chosen.begin(), chosen.end(),
              [](const Match& a, const Match& b) { return a.begin < b.begin; });
    for (const Match& match : chosen) {
      if (match.begin > done) emit({done, match.begin}, kNoToken);
      emit({match.begin, match.end}, match.id);
      done = match.end;
    }
    position = std::max(position, done);
  }
  if (done < size) emit({done, size}, kNoToken);
}

}  // namespace intarsia::model
