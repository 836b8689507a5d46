#include "index/clause_cursor.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "index/text_rows.h"

namespace intarsia::index {
namespace {

// Steps between two looks at the cancel token.
constexpr int64_t kStepsPerCheck = 1024;

using Entries = std::vector<ListCursor::Entry>;

Result<std::unique_ptr<PostingCursor>> FromEntries(Entries entries, ChunkLengths* lengths) {
  if (entries.empty()) return std::unique_ptr<PostingCursor>();
  for (ListCursor::Entry& entry : entries) {
    INTARSIA_ASSIGN_OR_RETURN(entry.length, lengths->Of(entry.id));
  }
  return std::unique_ptr<PostingCursor>(ListCursor::Create(entries));
}

// How often the phrase begins where all cursors stand.
Result<uint32_t> CountPhrase(const std::vector<std::unique_ptr<TermCursor>>& cursors) {
  INTARSIA_ASSIGN_OR_RETURN(const std::span<const uint32_t> first, cursors[0]->Positions());
  std::vector<uint32_t> begins(first.begin(), first.end());
  for (size_t i = 1; i < cursors.size() && !begins.empty(); ++i) {
    INTARSIA_ASSIGN_OR_RETURN(const std::span<const uint32_t> positions, cursors[i]->Positions());
    auto position = positions.begin();
    std::erase_if(begins, [&](uint32_t begin) {
      const uint64_t wanted = uint64_t{begin} + i;
      while (position != positions.end() && *position < wanted) ++position;
      return position == positions.end() || *position != wanted;
    });
  }
  return static_cast<uint32_t>(begins.size());
}

Result<std::unique_ptr<PostingCursor>> OpenPhrase(const RowReader& rows, const TextClause& clause,
                                                  ChunkLengths* lengths,
                                                  const CancelToken* cancel) {
  std::vector<std::unique_ptr<TermCursor>> cursors;
  size_t rarest = 0;
  for (const std::string& term : clause.terms) {
    INTARSIA_ASSIGN_OR_RETURN(auto cursor, TermCursor::Open(rows, term));
    if (cursor == nullptr) return std::unique_ptr<PostingCursor>();
    cursors.push_back(std::move(cursor));
    if (cursors.back()->num_postings() < cursors[rarest]->num_postings()) {
      rarest = cursors.size() - 1;
    }
  }
  Entries entries;
  uint64_t id = 0;
  for (int64_t step = 0;; ++step) {
    if (cancel != nullptr && step % kStepsPerCheck == 0) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_RETURN_IF_ERROR(cursors[rarest]->Seek(id));
    id = cursors[rarest]->id();
    if (id == kNoPosting) break;
    uint64_t next = id;
    for (const auto& cursor : cursors) {
      INTARSIA_RETURN_IF_ERROR(cursor->Seek(id));
      next = cursor->id();
      if (next != id) break;
    }
    if (next == kNoPosting) break;
    if (next != id) {
      id = next;
      continue;
    }
    INTARSIA_ASSIGN_OR_RETURN(const uint32_t frequency, CountPhrase(cursors));
    if (frequency > 0) entries.push_back({.id = id, .frequency = frequency});
    ++id;
  }
  return FromEntries(std::move(entries), lengths);
}

// The terms of the words that begin with `prefix`, sorted, each once.
Result<std::vector<std::string>> TermsWithPrefix(const RowReader& rows, const std::string& prefix,
                                                 const CancelToken* cancel) {
  std::string end = "t" + prefix;
  end.push_back('\xff');  // No byte of UTF-8.
  std::vector<std::string> terms;
  const auto row = rows.NewIterator("t" + prefix, end);
  while (row->Valid()) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    const std::string_view key = row->key();
    const size_t size = key.find('\0');
    if (size == std::string_view::npos) {
      return Status(StatusCode::kCorruption, "text index: a row without a term");
    }
    terms.emplace_back(key.substr(1, size - 1));
    row->Seek("t" + terms.back() + '\1');  // Behind all rows of the term.
  }
  INTARSIA_RETURN_IF_ERROR(row->status());
  std::string words_end = WordKey(prefix);
  words_end.push_back('\xff');
  const auto word = rows.NewIterator(WordKey(prefix), words_end);
  for (; word->Valid(); word->Next()) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, word->Body());
    INTARSIA_ASSIGN_OR_RETURN(WordRow found, DecodeWordRow(body));
    terms.push_back(std::move(found.term));
  }
  INTARSIA_RETURN_IF_ERROR(word->status());
  std::ranges::sort(terms);
  terms.erase(std::unique(terms.begin(), terms.end()), terms.end());
  return terms;
}

Result<std::unique_ptr<PostingCursor>> OpenPrefix(const RowReader& rows, const TextClause& clause,
                                                  ChunkLengths* lengths,
                                                  const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::string> terms,
                            TermsWithPrefix(rows, clause.terms[0], cancel));
  Entries all;
  for (const std::string& term : terms) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(const auto cursor, TermCursor::Open(rows, term));
    if (cursor == nullptr) continue;
    if (std::ssize(all) + cursor->num_postings() > kPrefixPostingsMax) {
      return Status(StatusCode::kInvalidArgument,
                    "too many words begin with this; give more letters: " + clause.terms[0] + "*");
    }
    INTARSIA_RETURN_IF_ERROR(cursor->Seek(0));
    while (cursor->id() != kNoPosting) {
      all.push_back({.id = cursor->id(), .frequency = cursor->frequency()});
      INTARSIA_RETURN_IF_ERROR(cursor->Next());
    }
  }
  std::ranges::stable_sort(all, {}, &ListCursor::Entry::id);
  Entries merged;
  for (const ListCursor::Entry& entry : all) {
    if (merged.empty() || merged.back().id != entry.id) {
      merged.push_back(entry);
    } else {
      // Rows may claim any frequency; a sum that wrapped to 0 could not be encoded.
      constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
      const uint64_t sum = uint64_t{merged.back().frequency} + entry.frequency;
      merged.back().frequency = static_cast<uint32_t>(std::min(sum, kMost));
    }
  }
  return FromEntries(std::move(merged), lengths);
}

}  // namespace

Result<uint32_t> ChunkLengths::Of(uint64_t id) {
  const uint64_t row = id / static_cast<uint64_t>(kLengthsPerRow);
  if (row != row_ || lengths_.empty()) {
    Result<std::string> body = rows_.Get(LengthsKey(id));
    if (!body.ok() && body.status().code() != StatusCode::kNotFound) {
      return std::move(body).status();
    }
    lengths_.clear();
    if (body.ok()) {
      INTARSIA_ASSIGN_OR_RETURN(lengths_, DecodeLengths(*body));
      row_ = row;
    }
  }
  const uint32_t length =
      lengths_.empty() ? 0 : lengths_[id % static_cast<uint64_t>(kLengthsPerRow)];
  if (length > 0) return length;
  return Status(StatusCode::kCorruption,
                "text index: postings of a chunk that is not there: id=" + std::to_string(id));
}

Result<std::unique_ptr<PostingCursor>> OpenClause(const RowReader& rows, const TextClause& clause,
                                                  ChunkLengths* lengths,
                                                  const CancelToken* cancel) {
  switch (clause.kind) {
    case TextClause::Kind::kTerm: {
      INTARSIA_ASSIGN_OR_RETURN(auto cursor, TermCursor::Open(rows, clause.terms[0]));
      return std::unique_ptr<PostingCursor>(std::move(cursor));
    }
    case TextClause::Kind::kPhrase:
      return OpenPhrase(rows, clause, lengths, cancel);
    case TextClause::Kind::kPrefix:
      return OpenPrefix(rows, clause, lengths, cancel);
  }
  return std::unique_ptr<PostingCursor>();
}

}  // namespace intarsia::index
