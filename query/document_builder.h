// DocumentBuilder: collects the blocks of an ExtractedText and keeps its sections.
//
// Thread safety: owned by one thread.
// Lifetime: the document must outlive it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "query/text_extractor.h"

namespace intarsia::query {

class DocumentBuilder {
 public:
  // Gives `document` its root section.
  explicit DocumentBuilder(ExtractedText* document) : document_(document) {
    document_->sections.assign(1, Section{});
  }

  // Adds a heading of `level` >= 1, which opens a section. The first of level 1 becomes the title
  // of a document that has none.
  void AddHeading(int32_t level, ByteRange range, std::string heading) {
    EndSections(level);
    if (document_->title.empty() && level == 1) document_->title = heading;
    document_->sections.push_back({section_, level, std::move(heading)});
    section_ = static_cast<int32_t>(document_->sections.size()) - 1;
    document_->blocks.push_back({BlockKind::kHeading, level, section_, range});
  }

  // Ends the open sections of `level` and below, as a heading of `level` would.
  void EndSections(int32_t level) {
    while (document_->sections[Index(section_)].level >= level) {
      section_ = document_->sections[Index(section_)].parent;
    }
  }

  // Adds any other block to the open section. `level` is 0 but for a list item.
  void AddBlock(BlockKind kind, int32_t level, ByteRange range) {
    document_->blocks.push_back({kind, level, section_, range});
  }

 private:
  static size_t Index(int32_t section) { return static_cast<size_t>(section); }

  ExtractedText* document_;
  int32_t section_ = 0;  // the root has level 0, so no heading closes it
};

}  // namespace intarsia::query
