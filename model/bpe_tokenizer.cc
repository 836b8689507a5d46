#include "model/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "model/byte_alphabet.h"
#include "model/token_sink.h"

namespace intarsia::model {
namespace {
constexpr size_t kWordBytesMax = size_t{256} << 10;
}  // namespace

Result<std::unique_ptr<Tokenizer>> BpeTokenizer::Create(const VocabularySpec& spec,
                                                        std::span<const std::string_view> merges,
                                                        PreTokenizer pre_tokenizer) {
  INTARSIA_ASSIGN_OR_RETURN(BpeMerges parsed, BpeMerges::Parse(merges));
  DigestBuilder salt;
  salt.Add("byte-level bpe 1").Add(static_cast<int64_t>(pre_tokenizer));
  for (const std::string_view merge : merges) salt.Add(merge);
  INTARSIA_ASSIGN_OR_RETURN(auto vocabulary, Vocabulary::Create(spec, salt.Finish()));
  return std::unique_ptr<Tokenizer>(
      new BpeTokenizer(std::move(vocabulary), std::move(parsed), pre_tokenizer));
}

BpeTokenizer::BpeTokenizer(std::unique_ptr<const Vocabulary> vocabulary, BpeMerges merges,
                           PreTokenizer pre_tokenizer)
    : Tokenizer(std::move(vocabulary)), merges_(std::move(merges)), pre_tokenizer_(pre_tokenizer) {
  for (int32_t id = 0; id < this->vocabulary().size(); ++id) {
    if (this->vocabulary().is_special(id)) continue;
    const auto bytes = DecodeByteAlphabet(this->vocabulary().text(id));
    if (!bytes || bytes->empty()) continue;
    const int32_t symbol = merges_.AddSymbol(*bytes);
    ids_.resize(static_cast<size_t>(merges_.num_symbols()), kNoToken);
    int32_t& id_of_symbol = ids_[static_cast<size_t>(symbol)];
    if (id_of_symbol == kNoToken) id_of_symbol = id;
  }
  ids_.resize(static_cast<size_t>(merges_.num_symbols()), kNoToken);
}

void BpeTokenizer::EncodeFragment(std::string_view text, int64_t offset, TokenSink* sink) const {
  SplitIntoWords(pre_tokenizer_, text, [&](std::string_view word) {
    const int64_t word_offset = offset + (word.data() - text.data());
    if (sink->Repeat(word, word_offset)) return;
    const int64_t first = sink->size();
    for (size_t begin = 0; begin < word.size(); begin += kWordBytesMax) {
      EncodeWord(word.substr(begin, kWordBytesMax), word_offset + static_cast<int64_t>(begin),
                 sink);
    }
    sink->Remember(word, word_offset, first);
  });
}

void BpeTokenizer::EncodeWord(std::string_view word, int64_t offset, TokenSink* sink) const {
  if (pre_tokenizer_ == PreTokenizer::kLlama3) {
    // This family takes a word that is a token as it is, without asking the merges.
    const int32_t symbol = merges_.FindSymbol(word);
    if (symbol >= 0 && ids_[static_cast<size_t>(symbol)] != kNoToken) {
      sink->Add(ids_[static_cast<size_t>(symbol)], offset,
                offset + static_cast<int64_t>(word.size()));
      return;
    }
  }
  for (const int32_t symbol : merges_.Merge(word)) {
    const std::string_view bytes = merges_.symbol(symbol);
    const int64_t end = offset + static_cast<int64_t>(bytes.size());
    if (const int32_t id = ids_[static_cast<size_t>(symbol)]; id != kNoToken) {
      sink->Add(id, offset, end);
      offset = end;
      continue;
    }
    // Merged into what is no token, or a byte that the vocabulary leaves out.
    for (const char byte : bytes) {
      const int32_t id_of_byte = ids_[static_cast<uint8_t>(byte)];
      if (id_of_byte != kNoToken) sink->Add(id_of_byte, offset, offset + 1);
      ++offset;
    }
  }
}

}  // namespace intarsia::model
