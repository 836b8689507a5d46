#include "index/posting_cursor.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "index/text_rows.h"

namespace intarsia::index {

Result<std::string> ReadPositions(const RowReader& rows, std::string_view page_key) {
  Result<std::string> positions = rows.Get("o" + std::string(page_key.substr(1)));
  if (positions.ok() || positions.status().code() != StatusCode::kNotFound) return positions;
  // The page is there, so they were lost.
  return Status(StatusCode::kCorruption, "postings: the positions of a page are gone: " +
                                             std::string(positions.status().message()));
}

Status PostingCursor::SeekBlock(uint64_t id) {
  while (!is_exhausted_) {
    while (!at_end() && block().last_id < id) ++block_;
    if (!at_end()) return Status::Ok();
    page_.blocks.clear();
    block_ = 0;
    decoded_block_ = -1;
    INTARSIA_RETURN_IF_ERROR(LoadPage(id));
    is_exhausted_ = page_.blocks.empty();
  }
  return Status::Ok();
}

Status PostingCursor::Seek(uint64_t id) {
  INTARSIA_RETURN_IF_ERROR(SeekBlock(id));
  if (at_end()) {
    id_ = kNoPosting;
    return Status::Ok();
  }
  const auto count = static_cast<size_t>(block().count);
  if (decoded_block_ != block_) {
    INTARSIA_RETURN_IF_ERROR(DecodePostings(block(), std::span(ids_).first(count),
                                            std::span(frequencies_).first(count)));
    ++num_blocks_decoded_;
    decoded_block_ = block_;
    at_ = 0;
  }
  // Mostly one step; the last id of the block is at or behind `id`, so there is an end.
  auto at = static_cast<size_t>(at_);
  for (int step = 0; step < 4 && ids_[at] < id; ++step) ++at;
  if (ids_[at] < id) {
    at = static_cast<size_t>(std::lower_bound(ids_.begin() + static_cast<int64_t>(at),
                                              ids_.begin() + static_cast<int64_t>(count), id) -
                             ids_.begin());
  }
  at_ = static_cast<int64_t>(at);
  id_ = ids_[at];
  return Status::Ok();
}

Result<std::unique_ptr<TermCursor>> TermCursor::Open(const RowReader& rows, std::string_view term) {
  Result<std::string> body = rows.Get(TermKey(term));
  if (!body.ok()) {
    if (body.status().code() == StatusCode::kNotFound) return std::unique_ptr<TermCursor>();
    return std::move(body).status();
  }
  INTARSIA_ASSIGN_OR_RETURN(const TermRow row, DecodeTermRow(*body));
  return std::unique_ptr<TermCursor>(new TermCursor(rows, term, *std::move(body), row));
}

TermCursor::TermCursor(const RowReader& rows, std::string_view term, std::string body,
                       const TermRow& row)
    : PostingCursor(row.num_postings, row.bound), rows_(rows), term_(term), body_(std::move(body)) {
  // Moving a short string moves its bytes, so the views are taken again; the row was checked.
  row_ = *DecodeTermRow(body_);
  int64_t in_row = 0;
  for (const PostingBlock& block : row_.page.blocks) in_row += block.count;
  if (in_row < row_.num_postings) pages_ = rows_.NewIterator(TermPrefix(term_), TermKey(term_));
}

Status TermCursor::LoadPage(uint64_t id) {
  positions_block_ = -1;
  has_closed_positions_ = false;
  while (pages_ != nullptr) {
    // The next page is mostly the one: stepping is cheaper than seeking.
    const std::string wanted = PageKey(term_, id);
    if (!page_key_.empty() && pages_->Valid()) pages_->Next();
    if (pages_->Valid() && pages_->key() < wanted) pages_->Seek(wanted);
    INTARSIA_RETURN_IF_ERROR(pages_->status());
    if (!pages_->Valid()) {
      pages_.reset();
      break;
    }
    page_key_ = pages_->key();
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, pages_->Body());
    ByteReader reader(body, "page of postings");
    INTARSIA_ASSIGN_OR_RETURN(page_, ParsePage(&reader));
    if (reader.remaining() != 0 || page_.blocks.empty()) {
      return Status(StatusCode::kCorruption, "postings: a page of another size: term=" + term_);
    }
    // Removed chunks may have left less than the key promises.
    if (page_.blocks.back().last_id >= id) return Status::Ok();
    page_.blocks.clear();
  }
  const bool is_first = !std::exchange(is_row_loaded_, true);
  const std::vector<PostingBlock>& newest = row_.page.blocks;
  if (is_first && !newest.empty() && newest.back().last_id >= id) page_ = row_.page;
  return Status::Ok();
}

Status TermCursor::LoadPositions() {
  std::string_view bytes = row_.positions;
  if (pages_ != nullptr) {
    if (!has_closed_positions_) {
      INTARSIA_ASSIGN_OR_RETURN(closed_positions_, ReadPositions(rows_, page_key_));
      if (std::ssize(closed_positions_) != page_.position_bytes()) {
        return Status(StatusCode::kCorruption,
                      "postings: positions of another size: term=" + term_);
      }
      has_closed_positions_ = true;
    }
    bytes = closed_positions_;
  }
  int64_t begin = 0;
  for (int64_t i = 0; i < decoded_block_; ++i) {
    begin += page_.blocks[static_cast<size_t>(i)].position_bytes;
  }
  const PostingBlock& decoded = page_.blocks[static_cast<size_t>(decoded_block_)];
  INTARSIA_ASSIGN_OR_RETURN(
      positions_,
      DecodePositions(
          bytes.substr(static_cast<size_t>(begin), static_cast<size_t>(decoded.position_bytes)),
          std::span(frequencies_).first(static_cast<size_t>(decoded.count))));
  positions_block_ = decoded_block_;
  return Status::Ok();
}

Result<std::span<const uint32_t>> TermCursor::Positions() {
  INTARSIA_CHECK(decoded_block_ >= 0);
  if (positions_block_ != decoded_block_) INTARSIA_RETURN_IF_ERROR(LoadPositions());
  size_t begin = 0;
  for (int64_t i = 0; i < at_; ++i) begin += frequencies_[static_cast<size_t>(i)];
  return std::span<const uint32_t>(positions_).subspan(begin, frequency());
}

std::unique_ptr<ListCursor> ListCursor::Create(std::span<const Entry> entries) {
  ScoreBound bound;
  for (const Entry& entry : entries) bound.Include(entry.frequency, entry.length);
  std::unique_ptr<ListCursor> cursor(new ListCursor(std::ssize(entries), bound));
  std::vector<uint64_t> ids;
  std::vector<uint32_t> frequencies;
  while (!entries.empty()) {
    const auto part =
        entries.first(std::min(entries.size(), static_cast<size_t>(kPostingsPerBlock)));
    entries = entries.subspan(part.size());
    ids.clear();
    frequencies.clear();
    PostingBlock& block = cursor->all_.blocks.emplace_back();
    for (const Entry& entry : part) {
      ids.push_back(entry.id);
      frequencies.push_back(entry.frequency);
      block.bound.Include(entry.frequency, entry.length);
    }
    block.first_id = ids.front();
    block.last_id = ids.back();
    block.count = std::ssize(ids);
    block.postings = cursor->bytes_.emplace_back(EncodePostings(ids, frequencies));
  }
  return cursor;
}

Status ListCursor::LoadPage(uint64_t /*id*/) {
  if (!is_loaded_) page_ = all_;
  is_loaded_ = true;
  return Status::Ok();
}

}  // namespace intarsia::index
