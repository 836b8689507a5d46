#include "index/text_analyzer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>
#include <utility>

#include <unicode/brkiter.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/uvernum.h>

#include "index/stemmer.h"

namespace intarsia::index {
namespace {

// Of the rules in this file; a change of what they give is a change of the number.
constexpr int kRulesVersion = 1;

// Stems that are remembered; a text has few distinct words, and stemming one costs as much as
// cutting ten.
constexpr size_t kStemsMax = 1 << 16;

constexpr std::array<std::string_view, 15> kLanguages = {
    "danish",    "dutch",      "english",  "finnish", "french",  "german",  "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "turkish"};

// Of English, sorted.
constexpr std::array<std::string_view, 84> kFunctionWords = {
    "a",     "about", "all",     "am",    "an",   "and",  "any",   "are",  "as",   "at",
    "be",    "been",  "being",   "but",   "by",   "can",  "could", "did",  "do",   "does",
    "for",   "from",  "had",     "has",   "have", "he",   "her",   "here", "him",  "his",
    "how",   "i",     "if",      "in",    "into", "is",   "it",    "its",  "may",  "me",
    "must",  "my",    "no",      "not",   "of",   "on",   "or",    "our",  "she",  "should",
    "so",    "some",  "such",    "than",  "that", "the",  "their", "them", "then", "there",
    "these", "they",  "this",    "those", "to",   "us",   "was",   "we",   "were", "what",
    "when",  "where", "whether", "which", "who",  "whom", "whose", "why",  "will", "with",
    "would", "yet",   "you",     "your"};

constexpr char16_t kApostrophe = u'\'';
constexpr char16_t kRightQuote = u'\u2019';

// Where UAX 29 joins and we cut: "leave.md", "kv_cache", "intarsia::index".
bool IsJoiner(char16_t unit) { return unit == u'.' || unit == u':' || unit == u'_'; }

bool IsDigit(char16_t unit) { return u_isdigit(unit) != 0; }

// Cuts `word` to the longest whole characters within kTermBytesMax.
void Shorten(std::string* word) {
  if (std::ssize(*word) <= kTermBytesMax) return;
  auto size = static_cast<size_t>(kTermBytesMax);
  while (size > 0 && (static_cast<uint8_t>((*word)[size]) & 0xC0) == 0x80) --size;
  word->resize(size);
}

}  // namespace

struct TextAnalyzer::State {
  std::string language;
  std::optional<Stemmer> stemmer;  // Empty for "none".
  const icu::Normalizer2* normalizer = nullptr;
  std::unique_ptr<icu::BreakIterator> words;
  std::unordered_map<std::string, std::string> stems;

  const std::string& StemOf(const std::string& word) {
    if (const auto found = stems.find(word); found != stems.end()) return found->second;
    if (stems.size() >= kStemsMax) stems.clear();
    std::string stem = stemmer.has_value() ? stemmer->Stem(word) : word;
    if (stem.empty()) stem = word;
    Shorten(&stem);
    return stems.emplace(word, std::move(stem)).first->second;
  }

  // Calls `take` with each word of `text`.
  template <typename Take>
  void ForEachWord(std::string_view text, const Take& take) {
    const icu::UnicodeString raw =
        icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())});
    UErrorCode error = U_ZERO_ERROR;
    icu::UnicodeString form = normalizer->normalize(raw, error);
    if (U_FAILURE(error) != 0) form = raw;  // Out of memory: words as they are will do.
    form.findAndReplace(icu::UnicodeString(kRightQuote), icu::UnicodeString(kApostrophe));
    words->setText(form);
    std::string word;
    const auto emit = [&](int32_t begin, int32_t end) {
      if (begin >= end) return;
      word.clear();
      form.tempSubStringBetween(begin, end).toUTF8String(word);
      Shorten(&word);
      if (!word.empty() && word.find('\0') == std::string::npos) take(word);
    };
    int32_t begin = words->first();
    for (int32_t end = words->next(); end != icu::BreakIterator::DONE; end = words->next()) {
      if (words->getRuleStatus() >= UBRK_WORD_NONE_LIMIT) {
        int32_t part = begin;
        for (int32_t i = begin; i < end; ++i) {
          if (!IsJoiner(form[i])) continue;
          if (i > begin && i + 1 < end && IsDigit(form[i - 1]) && IsDigit(form[i + 1])) continue;
          emit(part, i);
          part = i + 1;
        }
        emit(part, end);
      }
      begin = end;
    }
  }
};

TextAnalyzer::TextAnalyzer(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextAnalyzer::~TextAnalyzer() = default;

std::span<const std::string_view> TextAnalyzer::Languages() { return kLanguages; }

Result<std::unique_ptr<TextAnalyzer>> TextAnalyzer::Create(const std::string& language) {
  auto state = std::make_unique<State>();
  state->language = language;
  if (language != "none") {
    if (std::ranges::find(kLanguages, language) == kLanguages.end()) {
      return Status(StatusCode::kUnsupported, "there is no stemmer for this language: " + language);
    }
    INTARSIA_ASSIGN_OR_RETURN(Stemmer stemmer, Stemmer::Create(language));
    state->stemmer.emplace(std::move(stemmer));
  }
  UErrorCode error = U_ZERO_ERROR;
  state->normalizer = icu::Normalizer2::getNFKCCasefoldInstance(error);
  // The root locale: what is a word does not depend on who runs the program.
  if (U_SUCCESS(error) != 0) {
    state->words.reset(icu::BreakIterator::createWordInstance(icu::Locale::getRoot(), error));
  }
  if (U_FAILURE(error) != 0 || state->words == nullptr) {
    return Status(StatusCode::kUnsupported,
                  "ICU has no data to cut words by: " + std::string(u_errorName(error)));
  }
  return std::unique_ptr<TextAnalyzer>(new TextAnalyzer(std::move(state)));
}

void TextAnalyzer::Analyze(std::string_view text, std::vector<Word>* words) {
  state_->ForEachWord(text, [&](const std::string& word) {
    words->push_back({.text = word, .term = state_->StemOf(word)});
  });
}

bool TextAnalyzer::IsFunctionWord(std::string_view word) const {
  return state_->language == "english" && std::ranges::binary_search(kFunctionWords, word);
}

std::string TextAnalyzer::Signature() const {
  return "words=" + std::to_string(kRulesVersion) + " icu=" U_ICU_VERSION +
         " stems=" + state_->language;
}

}  // namespace intarsia::index
