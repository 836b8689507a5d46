// TextIndexer: keeps the text index of each collection in step with its chunks.
//
// A chunk is indexed with what it is embedded with: the title of its document, the headings above
// it, and its text.
//
// Thread safety: thread-safe.
#pragma once

#include <memory>
#include <string>

#include "index/text_analyzer.h"
#include "storage/catalog.h"
#include "storage/chunk_indexer.h"

namespace intarsia::engine {

// Whether the collection was made with a text index. Those of earlier programs get one.
bool HasTextIndex(const storage::CollectionInfo& collection);

// By the collection's language. Errors: those of TextAnalyzer::Create.
Result<std::unique_ptr<index::TextAnalyzer>> AnalyzerOf(const storage::CollectionInfo& collection);

class TextIndexer : public storage::ChunkIndexer {
 public:
  Result<std::unique_ptr<storage::ChunkIndexChange>> Begin(
      const storage::CollectionInfo& collection) const override;
};

}  // namespace intarsia::engine
