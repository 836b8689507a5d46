// PostingCursor: walks the postings of a term, skipping blocks that need not be decoded.
//
// It stands at two places at once: at a posting, and at a block at or behind it, whose bound says
// whether going there pays. Both only move forward.
//
// Thread safety: owned by one thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/row_store.h"
#include "index/posting_codec.h"

namespace intarsia::index {

inline constexpr uint64_t kNoPosting = ~uint64_t{0};

// The positions of a closed page, given the key of its row. Errors: kCorruption if they are gone or
// damaged; kIo.
Result<std::string> ReadPositions(const RowReader& rows, std::string_view page_key);

class PostingCursor {
 public:
  virtual ~PostingCursor() = default;
  PostingCursor(const PostingCursor&) = delete;
  PostingCursor& operator=(const PostingCursor&) = delete;

  int64_t num_postings() const { return num_postings_; }
  const ScoreBound& bound() const { return bound_; }  // of all of them
  int64_t num_blocks_decoded() const { return num_blocks_decoded_; }

  // Moves the block to the one that holds the first posting at or behind `id`.
  // Errors: kCorruption, kIo.
  Status SeekBlock(uint64_t id);
  bool at_end() const { return block_ >= std::ssize(page_.blocks); }  // of the blocks
  // REQUIRES: !at_end().
  const PostingBlock& block() const { return page_.blocks[static_cast<size_t>(block_)]; }

  // Moves to the first posting at or behind `id`. Errors: as SeekBlock.
  Status Seek(uint64_t id);
  Status Next() { return id_ == kNoPosting ? Status::Ok() : Seek(id_ + 1); }
  // kNoPosting behind the last posting. REQUIRES: Seek was called; of frequency also: there is one.
  uint64_t id() const { return id_; }
  uint32_t frequency() const { return frequencies_[static_cast<size_t>(at_)]; }

 protected:
  PostingCursor(int64_t num_postings, const ScoreBound& bound)
      : num_postings_(num_postings), bound_(bound) {}

  // Sets page_ to the next page with a posting at or behind `id`, or to one without blocks.
  virtual Status LoadPage(uint64_t id) = 0;

  PostingPage page_;
  int64_t block_ = 0;           // in page_
  int64_t decoded_block_ = -1;  // of page_; -1: none
  int64_t at_ = 0;              // in the decoded block
  std::array<uint32_t, kPostingsPerBlock> frequencies_ = {};

 private:
  const int64_t num_postings_;
  const ScoreBound bound_;
  int64_t num_blocks_decoded_ = 0;
  bool is_exhausted_ = false;  // no page follows
  uint64_t id_ = 0;
  std::array<uint64_t, kPostingsPerBlock> ids_ = {};
};

// The postings of one term in the rows of an index.
class TermCursor : public PostingCursor {
 public:
  // Null if no chunk holds the term. `rows` must outlive it. Errors: kCorruption, kIo.
  static Result<std::unique_ptr<TermCursor>> Open(const RowReader& rows, std::string_view term);

  // The ascending positions of the posting that the cursor stands at, valid until it moves.
  // REQUIRES: there is one. Errors: as SeekBlock.
  Result<std::span<const uint32_t>> Positions();

 private:
  TermCursor(const RowReader& rows, std::string_view term, std::string body, const TermRow& row);
  Status LoadPage(uint64_t id) override;
  // Decodes the positions of the block that is decoded.
  Status LoadPositions();

  const RowReader& rows_;
  const std::string term_;
  const std::string body_;  // of the term's row; moved in with its views
  TermRow row_;
  std::unique_ptr<RowIterator> pages_;  // null once the row of the term is the page
  bool is_row_loaded_ = false;
  std::string page_key_;          // of the closed page
  std::string closed_positions_;  // of the closed page, once they are needed
  bool has_closed_positions_ = false;
  int64_t positions_block_ = -1;  // whose positions are decoded; -1: none
  std::vector<uint32_t> positions_;
};

// Postings that were computed: of a phrase or a prefix.
class ListCursor : public PostingCursor {
 public:
  struct Entry {
    uint64_t id = 0;
    uint32_t frequency = 0;
    uint32_t length = 0;  // of the chunk
  };
  // By ascending ids, each once.
  static std::unique_ptr<ListCursor> Create(std::span<const Entry> entries);

 private:
  ListCursor(int64_t num_postings, const ScoreBound& bound) : PostingCursor(num_postings, bound) {}
  Status LoadPage(uint64_t id) override;

  PostingPage all_;
  std::deque<std::string> bytes_;
  bool is_loaded_ = false;
};

}  // namespace intarsia::index
