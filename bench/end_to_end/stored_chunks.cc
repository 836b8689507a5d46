#include "bench/end_to_end/stored_chunks.h"

#include <string_view>
#include <utility>

#include "base/hash.h"

namespace intarsia::bench {
namespace {

// A cache in the store, pinned while it is in use.
class StoredKv : public engine::KvSource {
 public:
  StoredKv(storage::KvStore* store, storage::KvHandle handle)
      : store_(store), handle_(std::move(handle)) {}

  engine::KvPayloadType type() const override {
    return static_cast<engine::KvPayloadType>(handle_.shape().quantizer);
  }
  int64_t num_tokens() const override { return handle_.shape().num_tokens; }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    return store_->ReadLayer(handle_, layer, target);
  }
  bool StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag) const override {
    return store_->StartLayer(handle_, layer, target, reader, tag);
  }
  Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const override {
    return store_->FinishLayer(handle_, layer, target, num_read);
  }

 private:
  storage::KvStore* const store_;
  const storage::KvHandle handle_;
};

}  // namespace

Result<std::unique_ptr<StoredChunks>> StoredChunks::Create() {
  INTARSIA_ASSIGN_OR_RETURN(ScratchDirectory scratch, ScratchDirectory::Create(""));
  INTARSIA_ASSIGN_OR_RETURN(auto database, storage::Database::Open(scratch.path() + "/kb", {}));
  return std::unique_ptr<StoredChunks>(new StoredChunks(std::move(scratch), std::move(database)));
}

StoredChunks::StoredChunks(ScratchDirectory scratch, std::unique_ptr<storage::Database> database)
    : scratch_(std::move(scratch)), database_(std::move(database)) {}

Result<std::unique_ptr<engine::KvSource>> StoredChunks::Add(const engine::MemoryKv& kv) {
  std::vector<std::string_view> layers;
  for (const std::vector<uint8_t>& layer : kv.layers()) {
    layers.emplace_back(reinterpret_cast<const char*>(layer.data()), layer.size());
  }
  const Digest identity = DigestOf("chunk " + std::to_string(num_added_++));
  storage::KvStore* const store = database_->kv();
  INTARSIA_ASSIGN_OR_RETURN(const storage::KvPutOutcome outcome,
                            store->Put({.identity = identity,
                                        .shape = {.num_layers = std::ssize(layers),
                                                  .num_tokens = kv.num_tokens(),
                                                  .quantizer = static_cast<uint32_t>(kv.type())},
                                        .layers = layers,
                                        .owner = {},
                                        .generation = store->generation()}));
  if (outcome != storage::KvPutOutcome::kStored) {
    return Status(StatusCode::kResourceExhausted, "the store did not take a KV cache");
  }
  INTARSIA_ASSIGN_OR_RETURN(storage::KvHandle handle, store->Find(identity));
  return std::unique_ptr<engine::KvSource>(new StoredKv(store, std::move(handle)));
}

std::vector<std::string> StoredChunks::SegmentPaths() const {
  return FilesBelow(scratch_.path() + "/kb/kv");
}

Status StoredChunks::DropFromPageCache() { return bench::DropFromPageCache(SegmentPaths()); }

Result<double> StoredChunks::ShareInPageCache() const {
  return bench::ShareInPageCache(SegmentPaths());
}

}  // namespace intarsia::bench
