#include "index/page_editor.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace intarsia::index {
namespace {

Status Damaged(std::string_view what, uint64_t id) {
  return Status(StatusCode::kCorruption,
                "postings: " + std::string(what) + ": id=" + std::to_string(id));
}

}  // namespace

Result<PageEditor> PageEditor::Open(const PostingPage& page, std::string_view positions) {
  PageEditor editor;
  editor.page_ = page;
  if (page.position_bytes() != std::ssize(positions)) {
    return Damaged("positions are not as long as their page says", positions.size());
  }
  for (const PostingBlock& block : page.blocks) {
    const auto size = static_cast<size_t>(block.position_bytes);
    editor.positions_.push_back(positions.substr(0, size));
    positions.remove_prefix(size);
  }
  return editor;
}

bool PageEditor::is_full() const {
  return std::ssize(page_.blocks) == kBlocksPerPage &&
         page_.blocks.back().count == kPostingsPerBlock;
}

Result<PageEditor::DecodedBlock> PageEditor::Decode(size_t index) const {
  const PostingBlock& block = page_.blocks[index];
  DecodedBlock decoded;
  decoded.ids.resize(static_cast<size_t>(block.count));
  decoded.frequencies.resize(static_cast<size_t>(block.count));
  INTARSIA_RETURN_IF_ERROR(DecodePostings(block, decoded.ids, decoded.frequencies));
  INTARSIA_ASSIGN_OR_RETURN(decoded.positions,
                            DecodePositions(positions_[index], decoded.frequencies));
  return decoded;
}

void PageEditor::Encode(size_t index, const DecodedBlock& decoded) {
  PostingBlock& block = page_.blocks[index];
  block.first_id = decoded.ids.front();
  block.last_id = decoded.ids.back();
  block.count = std::ssize(decoded.ids);
  block.postings = bytes_.emplace_back(EncodePostings(decoded.ids, decoded.frequencies));
  positions_[index] = bytes_.emplace_back(EncodePositions(decoded.frequencies, decoded.positions));
  block.position_bytes = std::ssize(positions_[index]);
}

Result<int64_t> PageEditor::Append(std::span<const NewPosting> postings) {
  int64_t num_appended = 0;
  while (num_appended < std::ssize(postings) && !is_full()) {
    DecodedBlock decoded;
    if (is_empty() || page_.blocks.back().count == kPostingsPerBlock) {
      page_.blocks.emplace_back();
      positions_.emplace_back();
    } else {
      INTARSIA_ASSIGN_OR_RETURN(decoded, Decode(page_.blocks.size() - 1));
    }
    const size_t last = page_.blocks.size() - 1;
    const uint64_t least_id = !decoded.ids.empty() ? decoded.ids.back() + 1
                              : last > 0           ? page_.blocks[last - 1].last_id + 1
                                                   : 0;
    const int64_t count =
        std::min(kPostingsPerBlock - std::ssize(decoded.ids), std::ssize(postings) - num_appended);
    if (const uint64_t id = postings[static_cast<size_t>(num_appended)].id; id < least_id) {
      return Damaged("a newer chunk is there already", id);
    }
    for (int64_t i = 0; i < count; ++i, ++num_appended) {
      const NewPosting& posting = postings[static_cast<size_t>(num_appended)];
      const auto frequency = static_cast<uint32_t>(posting.positions.size());
      decoded.ids.push_back(posting.id);
      decoded.frequencies.push_back(frequency);
      decoded.positions.insert(decoded.positions.end(), posting.positions.begin(),
                               posting.positions.end());
      page_.blocks[last].bound.Include(frequency, posting.length);
    }
    Encode(last, decoded);
  }
  return num_appended;
}

Status PageEditor::Remove(std::span<const uint64_t> ids) {
  for (size_t index = 0; index < page_.blocks.size() && !ids.empty(); ++index) {
    const uint64_t last_id = page_.blocks[index].last_id;
    const auto end = std::ranges::upper_bound(ids, last_id);
    const std::span<const uint64_t> here = ids.first(static_cast<size_t>(end - ids.begin()));
    if (here.empty()) continue;
    INTARSIA_ASSIGN_OR_RETURN(const DecodedBlock decoded, Decode(index));
    DecodedBlock kept;
    auto gone = here.begin();
    auto position = decoded.positions.begin();
    for (size_t i = 0; i < decoded.ids.size(); ++i) {
      const auto next = position + decoded.frequencies[i];
      if (gone != here.end() && *gone == decoded.ids[i]) {
        ++gone;
      } else {
        kept.ids.push_back(decoded.ids[i]);
        kept.frequencies.push_back(decoded.frequencies[i]);
        kept.positions.insert(kept.positions.end(), position, next);
      }
      position = next;
    }
    if (gone != here.end()) return Damaged("a removed chunk is not there", *gone);
    ids = ids.subspan(here.size());
    if (!kept.ids.empty()) {
      Encode(index, kept);
      continue;
    }
    page_.blocks.erase(page_.blocks.begin() + static_cast<int64_t>(index));
    positions_.erase(positions_.begin() + static_cast<int64_t>(index));
    --index;  // Wraps at 0 and comes back.
  }
  if (!ids.empty()) return Damaged("a removed chunk is not there", ids.front());
  return Status::Ok();
}

std::string PageEditor::positions() const {
  std::string joined;
  for (const std::string_view part : positions_) joined += part;
  return joined;
}

}  // namespace intarsia::index
