// Random texts with words as rare and as common as those of a language (Zipf), and a BM25 over them
// that knows nothing of indexes.
//
// Thread safety: functions may be called concurrently; a RandomText is owned by one thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "index/text_query.h"
#include "index/top_k.h"

namespace intarsia::index {

class RandomText {
 public:
  RandomText(uint64_t seed, int num_words) : random_(seed) {
    double sum = 0.0;
    for (int i = 0; i < num_words; ++i) cumulative_.push_back(sum += 1.0 / (i + 1.5));
  }

  // A made-up word that no stemmer changes.
  std::string Word() {
    const double at = std::uniform_real_distribution<>(0.0, cumulative_.back())(random_);
    return WordOf(std::ranges::lower_bound(cumulative_, at) - cumulative_.begin());
  }
  static std::string WordOf(int64_t rank) {
    std::string word = "w";
    for (int64_t rest = rank + 1; rest > 0; rest /= 10) {
      word.push_back(static_cast<char>('a' + rest % 10));
    }
    return word + "k";
  }
  std::string Text(int num_words) {
    std::string text;
    for (int i = 0; i < num_words; ++i) text += (i > 0 ? " " : "") + Word();
    return text;
  }
  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
  }

 private:
  std::mt19937_64 random_;
  std::vector<double> cumulative_;
};

// Chunks as their terms, scored one by one.
class ReferenceBm25 {
 public:
  explicit ReferenceBm25(TextAnalyzer* analyzer) : analyzer_(analyzer) {}

  void Add(uint64_t id, std::string_view text) {
    std::vector<TextAnalyzer::Word> words;
    analyzer_->Analyze(text, &words);
    for (TextAnalyzer::Word& word : words) chunks_[id].push_back(std::move(word.term));
  }
  void Remove(uint64_t id) { chunks_.erase(id); }

  static int64_t Count(const TextClause& clause, const std::vector<std::string>& terms) {
    int64_t count = 0;
    for (size_t i = 0; i < terms.size(); ++i) {
      if (clause.kind == TextClause::Kind::kPrefix) {
        count += terms[i].starts_with(clause.terms[0]) ? 1 : 0;
      } else {
        count += i + clause.terms.size() <= terms.size() &&
                         std::equal(clause.terms.begin(), clause.terms.end(),
                                    terms.begin() + static_cast<int64_t>(i))
                     ? 1
                     : 0;
      }
    }
    return count;
  }

  std::vector<SearchHit> Search(const TextQuery& query, int64_t k,
                                const std::set<uint64_t>* filter) const {
    constexpr double kK1 = 1.2;
    constexpr double kB = 0.75;
    double num_terms = 0.0;
    for (const auto& [id, terms] : chunks_) num_terms += static_cast<double>(terms.size());
    const auto num_chunks = static_cast<double>(chunks_.size());
    std::map<uint64_t, double> scores;
    std::set<uint64_t> excluded;
    for (const TextClause& clause : query.clauses) {
      std::map<uint64_t, int64_t> counts;
      for (const auto& [id, terms] : chunks_) {
        if (const int64_t count = Count(clause, terms); count > 0) counts[id] = count;
      }
      const auto n = static_cast<double>(counts.size());
      const double idf = std::log(1.0 + (num_chunks - n + 0.5) / (n + 0.5));
      for (const auto& [id, terms] : chunks_) {
        const bool holds = counts.contains(id);
        if (clause.occur == Occur::kMust && !holds) excluded.insert(id);
        if (clause.occur == Occur::kMustNot && holds) excluded.insert(id);
        if (!holds || clause.occur == Occur::kMustNot) continue;
        const auto tf = static_cast<double>(counts[id]);
        const double length = static_cast<double>(terms.size()) / (num_terms / num_chunks);
        scores[id] +=
            clause.weight * idf * (kK1 + 1.0) * tf / (tf + kK1 * (1.0 - kB + kB * length));
      }
    }
    TopK best(k);
    for (const auto& [id, score] : scores) {
      if (excluded.contains(id) || (filter != nullptr && !filter->contains(id))) continue;
      best.Push({.id = id, .score = static_cast<float>(score)});
    }
    return best.Take();
  }

  const std::map<uint64_t, std::vector<std::string>>& chunks() const { return chunks_; }

 private:
  TextAnalyzer* const analyzer_;
  std::map<uint64_t, std::vector<std::string>> chunks_;
};

}  // namespace intarsia::index
