#include "index/text_index_writer.h"

#include <algorithm>

#include "base/check.h"
#include "index/page_editor.h"
#include "index/posting_cursor.h"
#include "index/text_rows.h"

namespace intarsia::index {
namespace {

// Positions between two fields, so that no phrase spans them.
constexpr uint32_t kFieldGap = 100;

Status Damaged(std::string_view what, std::string_view term) {
  return Status(StatusCode::kCorruption,
                "text index: " + std::string(what) + ": term=" + std::string(term));
}

// Rows that wait until nothing reads the old ones any more.
struct StagedRow {
  std::string key;
  std::string body;  // empty: the row goes
};

// Removes ids from the closed pages of a term.
Status RemoveFromPages(const std::string& term, std::span<const uint64_t> ids,
                       const RowReader& rows, std::vector<StagedRow>* staged) {
  const std::string prefix = TermPrefix(term);
  const auto page_row = rows.NewIterator(prefix, TermKey(term));
  while (!ids.empty()) {
    page_row->Seek(PageKey(term, ids.front()));
    INTARSIA_RETURN_IF_ERROR(page_row->status());
    if (!page_row->Valid()) return Damaged("a removed chunk is in no page", term);
    const std::string last_id(page_row->key().substr(prefix.size()));
    const std::string page_key = prefix + last_id;
    const auto end =
        std::ranges::partition_point(ids, [&](uint64_t id) { return BigEndian(id) <= last_id; });
    const std::span<const uint64_t> here = ids.first(static_cast<size_t>(end - ids.begin()));
    ids = ids.subspan(here.size());
    if (here.empty()) return Damaged("a page stands out of order", term);

    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, page_row->Body());
    const std::string positions_key = "o" + page_key.substr(1);
    INTARSIA_ASSIGN_OR_RETURN(const std::string positions, ReadPositions(rows, page_key));
    ByteReader reader(body, "page of postings");
    INTARSIA_ASSIGN_OR_RETURN(const PostingPage page, ParsePage(&reader));
    INTARSIA_ASSIGN_OR_RETURN(PageEditor editor, PageEditor::Open(page, positions));
    INTARSIA_RETURN_IF_ERROR(editor.Remove(here));
    const bool is_gone = editor.is_empty();
    staged->push_back({page_key, is_gone ? std::string() : EncodePage(editor.page())});
    staged->push_back({positions_key, is_gone ? std::string() : editor.positions()});
  }
  return Status::Ok();
}

// The keys of a map in the order of the table that they are read from.
template <typename Map>
std::vector<const std::string*> SortedKeys(const Map& map) {
  std::vector<const std::string*> keys;
  for (const auto& [key, value] : map) keys.push_back(&key);
  std::ranges::sort(keys, {}, [](const std::string* key) -> const std::string& { return *key; });
  return keys;
}

}  // namespace

uint32_t TextIndexWriter::Analyze(std::span<const std::string_view> fields) {
  occurrences_.clear();
  distinct_words_.clear();
  uint32_t position = 0;
  uint32_t length = 0;
  for (const std::string_view field : fields) {
    field_.clear();
    analyzer_->Analyze(field, &field_);
    for (const TextAnalyzer::Word& word : field_) {
      occurrences_[word.term].push_back(position++);
      // A term that begins with the word is found by the word's beginnings.
      if (!word.term.starts_with(word.text)) distinct_words_.try_emplace(word.text, word.term);
    }
    length += static_cast<uint32_t>(field_.size());
    if (!field_.empty()) position += kFieldGap;
  }
  return length;
}

void TextIndexWriter::CountWords(int64_t delta) {
  for (const auto& [word, term] : distinct_words_) {
    WordChange& change = words_[word];
    change.delta += delta;
    change.term = term;
  }
}

void TextIndexWriter::Add(uint64_t id, std::span<const std::string_view> fields) {
  INTARSIA_CHECK(id < kPostingIdEnd && (num_added_ == 0 || id > last_added_));
  const uint32_t length = Analyze(fields);
  for (auto& [term, positions] : occurrences_) {
    changes_[term].added.push_back({.id = id, .length = length, .positions = std::move(positions)});
  }
  CountWords(1);
  lengths_.emplace_back(id, length);
  terms_added_ += length;
  last_added_ = id;
  ++num_added_;
}

void TextIndexWriter::Remove(uint64_t id, std::span<const std::string_view> fields) {
  INTARSIA_CHECK(id < kPostingIdEnd);
  const uint32_t length = Analyze(fields);
  for (const auto& [term, positions] : occurrences_) changes_[term].removed.push_back(id);
  CountWords(-1);
  lengths_.emplace_back(id, 0);
  terms_added_ -= length;
  ++num_removed_;
}

Status TextIndexWriter::FinishTerm(const std::string& term, const TermChange& change,
                                   const RowReader& rows, RowWriter* out) {
  std::string body;
  TermRow row;
  if (Result<std::string> found = rows.Get(TermKey(term)); found.ok()) {
    body = *std::move(found);
    INTARSIA_ASSIGN_OR_RETURN(row, DecodeTermRow(body));
  } else if (found.status().code() != StatusCode::kNotFound) {
    return std::move(found).status();
  }
  INTARSIA_ASSIGN_OR_RETURN(PageEditor editor, PageEditor::Open(row.page, row.positions));

  std::vector<uint64_t> removed = change.removed;
  std::ranges::sort(removed);
  const auto newest =
      editor.is_empty() ? removed.end() : std::ranges::lower_bound(removed, editor.first_id());
  INTARSIA_RETURN_IF_ERROR(editor.Remove({newest, removed.end()}));
  std::vector<StagedRow> staged;
  if (newest != removed.begin()) {
    INTARSIA_RETURN_IF_ERROR(RemoveFromPages(term, {removed.begin(), newest}, rows, &staged));
  }
  std::vector<NewPosting> postings;
  for (const Occurrence& added : change.added) {
    postings.push_back({.id = added.id, .length = added.length, .positions = added.positions});
    row.bound.Include(static_cast<uint32_t>(added.positions.size()), added.length);
  }
  row.num_postings += std::ssize(change.added) - std::ssize(removed);
  if (row.num_postings < 0) return Damaged("fewer postings than are removed", term);
  std::span<const NewPosting> rest = postings;
  while (!rest.empty()) {
    if (editor.is_full()) {
      staged.push_back({PageKey(term, editor.last_id()), EncodePage(editor.page())});
      staged.push_back({PositionsKey(term, editor.last_id()), editor.positions()});
      editor = PageEditor();
    }
    INTARSIA_ASSIGN_OR_RETURN(const int64_t count, editor.Append(rest));
    rest = rest.subspan(static_cast<size_t>(count));
  }
  if (row.num_postings == 0) {
    if (!editor.is_empty()) return Damaged("postings beyond their count", term);
    out->Delete(TermKey(term));
  } else {
    const std::string positions = editor.positions();
    row.page = editor.page();
    row.positions = positions;
    out->Put(TermKey(term), EncodeTermRow(row));
  }
  for (const StagedRow& next : staged) {
    if (next.body.empty()) {
      out->Delete(next.key);
    } else {
      out->Put(next.key, next.body);
    }
  }
  return Status::Ok();
}

Status TextIndexWriter::FinishWord(const std::string& word, const WordChange& change,
                                   const RowReader& rows, RowWriter* out) {
  if (change.delta == 0) return Status::Ok();
  WordRow row;
  if (const Result<std::string> body = rows.Get(WordKey(word)); body.ok()) {
    INTARSIA_ASSIGN_OR_RETURN(row, DecodeWordRow(*body));
  } else if (body.status().code() != StatusCode::kNotFound) {
    return body.status();
  }
  row.num_chunks += change.delta;
  row.term = change.term;
  if (row.num_chunks < 0) return Damaged("fewer chunks than are removed", word);
  if (row.num_chunks == 0) {
    out->Delete(WordKey(word));
  } else {
    out->Put(WordKey(word), EncodeWordRow(row));
  }
  return Status::Ok();
}

Status TextIndexWriter::FinishLengths(const RowReader& rows, RowWriter* out) const {
  std::vector<std::pair<uint64_t, uint32_t>> changes = lengths_;
  std::ranges::sort(changes);
  for (size_t i = 0; i < changes.size();) {
    const std::string key = LengthsKey(changes[i].first);
    std::vector<uint32_t> lengths(static_cast<size_t>(kLengthsPerRow));
    if (const Result<std::string> body = rows.Get(key); body.ok()) {
      INTARSIA_ASSIGN_OR_RETURN(lengths, DecodeLengths(*body));
    } else if (body.status().code() != StatusCode::kNotFound) {
      return body.status();
    }
    for (; i < changes.size() && LengthsKey(changes[i].first) == key; ++i) {
      lengths[changes[i].first % static_cast<uint64_t>(kLengthsPerRow)] = changes[i].second;
    }
    if (std::ranges::all_of(lengths, [](uint32_t length) { return length == 0; })) {
      out->Delete(key);
    } else {
      out->Put(key, EncodeLengths(lengths));
    }
  }
  return Status::Ok();
}

Status TextIndexWriter::FinishStats(const RowReader& rows, RowWriter* out) const {
  TextStats stats;
  if (const Result<std::string> body = rows.Get(TextStatsKey()); body.ok()) {
    INTARSIA_ASSIGN_OR_RETURN(stats, DecodeTextStats(*body));
    if (stats.signature != analyzer_->Signature()) {
      return Status(StatusCode::kCorruption,
                    "text index: made by other rules: got=" + stats.signature +
                        " want=" + analyzer_->Signature());
    }
  } else if (body.status().code() != StatusCode::kNotFound) {
    return body.status();
  }
  stats.signature = analyzer_->Signature();
  stats.num_chunks += num_added_ - num_removed_;
  stats.num_terms += terms_added_;
  if (stats.num_chunks < 0 || stats.num_terms < 0) {
    return Status(StatusCode::kCorruption, "text index: holds less than is removed: chunks=" +
                                               std::to_string(stats.num_chunks));
  }
  out->Put(TextStatsKey(), EncodeTextStats(stats));
  return Status::Ok();
}

Status TextIndexWriter::Finish(const RowReader& rows, RowWriter* out) {
  INTARSIA_RETURN_IF_ERROR(FinishStats(rows, out));
  INTARSIA_RETURN_IF_ERROR(FinishLengths(rows, out));
  for (const std::string* term : SortedKeys(changes_)) {
    INTARSIA_RETURN_IF_ERROR(FinishTerm(*term, changes_.at(*term), rows, out));
  }
  for (const std::string* word : SortedKeys(words_)) {
    INTARSIA_RETURN_IF_ERROR(FinishWord(*word, words_.at(*word), rows, out));
  }
  return Status::Ok();
}

}  // namespace intarsia::index
