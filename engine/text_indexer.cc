#include "engine/text_indexer.h"

#include <utility>

#include "engine/embedded_passage.h"
#include "index/text_index_writer.h"

namespace intarsia::engine {
namespace {

class TextIndexChange : public storage::ChunkIndexChange {
 public:
  explicit TextIndexChange(std::unique_ptr<index::TextAnalyzer> analyzer)
      : analyzer_(std::move(analyzer)), writer_(analyzer_.get()) {}

  void Add(const storage::IndexedChunk& chunk) override {
    const std::string place = EmbeddedPassage(chunk.title, chunk.heading_path, "");
    const std::string_view fields[] = {place, chunk.text};
    writer_.Add(chunk.id, fields);
  }
  void Remove(const storage::IndexedChunk& chunk) override {
    const std::string place = EmbeddedPassage(chunk.title, chunk.heading_path, "");
    const std::string_view fields[] = {place, chunk.text};
    writer_.Remove(chunk.id, fields);
  }
  Status Finish(const RowReader& rows, RowWriter* out) override {
    return writer_.Finish(rows, out);
  }

 private:
  const std::unique_ptr<index::TextAnalyzer> analyzer_;
  index::TextIndexWriter writer_;
};

}  // namespace

bool HasTextIndex(const storage::CollectionInfo& collection) {
  return storage::OptionOr(collection.options, "text_index", "bm25") != "off";
}

Result<std::unique_ptr<index::TextAnalyzer>> AnalyzerOf(const storage::CollectionInfo& collection) {
  return index::TextAnalyzer::Create(storage::OptionOr(collection.options, "language", "english"));
}

Result<std::unique_ptr<storage::ChunkIndexChange>> TextIndexer::Begin(
    const storage::CollectionInfo& collection) const {
  if (!HasTextIndex(collection)) return std::unique_ptr<storage::ChunkIndexChange>();
  INTARSIA_ASSIGN_OR_RETURN(auto analyzer, AnalyzerOf(collection));
  return std::unique_ptr<storage::ChunkIndexChange>(
      std::make_unique<TextIndexChange>(std::move(analyzer)));
}

}  // namespace intarsia::engine
