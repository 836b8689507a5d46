// PageEditor: a page of postings with its positions, to append to and to remove from.
//
// Blocks that do not change keep their bytes. The positions of a block are decoded only if the
// block is changed.
//
// Thread safety: owned by one thread.
// Lifetime: the bytes that it was made from must outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/posting_codec.h"

namespace intarsia::index {

// One posting that is appended.
struct NewPosting {
  uint64_t id = 0;
  uint32_t length = 0;                  // of the chunk, in terms
  std::span<const uint32_t> positions;  // ascending; its size is the frequency, at least 1
};

class PageEditor {
 public:
  PageEditor() = default;
  PageEditor(PageEditor&&) = default;  // Views stay where they are; a copy's would not.
  PageEditor& operator=(PageEditor&&) = default;
  // Errors: kCorruption if the positions are not as long as the page says.
  static Result<PageEditor> Open(const PostingPage& page, std::string_view positions);

  bool is_empty() const { return page_.blocks.empty(); }
  bool is_full() const;
  // REQUIRES: !is_empty().
  uint64_t first_id() const { return page_.blocks.front().first_id; }
  uint64_t last_id() const { return page_.blocks.back().last_id; }

  // Appends the first of `postings` that there is room for, and returns how many.
  // Errors: kCorruption if the last block is damaged, or ends at or behind the first new id.
  Result<int64_t> Append(std::span<const NewPosting> postings);

  // Removes postings. Errors: kCorruption if one of the ids, which ascend, is not in the page.
  Status Remove(std::span<const uint64_t> ids);

  const PostingPage& page() const { return page_; }
  std::string positions() const;

 private:
  struct DecodedBlock {
    std::vector<uint64_t> ids;
    std::vector<uint32_t> frequencies;
    std::vector<uint32_t> positions;
  };
  Result<DecodedBlock> Decode(size_t block) const;
  // Replaces the bytes of a block, keeping its bound.
  void Encode(size_t block, const DecodedBlock& decoded);

  PostingPage page_;
  std::vector<std::string_view> positions_;  // by block
  std::deque<std::string> bytes_;            // of blocks that were changed; addresses are stable
};

}  // namespace intarsia::index
