#include "storage/kv_core.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/async_reader.h"
#include "base/check.h"
#include "base/log.h"

namespace intarsia::storage {
namespace {

using Lock = std::lock_guard<std::mutex>;

// Larger layers are read in the ordinary way.
constexpr int64_t kDirectBytesMax = int64_t{1} << 30;

static_assert(kKvAlignment % AsyncReader::kAlignment == 0, "extents can be read directly");

Status Missing(const Digest& identity, std::string_view why) {
  return Status(StatusCode::kNotFound,
                "no kv cache (" + std::string(why) + "): identity=" + identity.ToHex());
}

// Errors: kInvalidArgument.
Status CheckTarget(const KvEntry& entry, int64_t layer, int64_t target_bytes) {
  if (layer < 0 || layer >= entry.shape.num_layers) {
    return Status(StatusCode::kInvalidArgument,
                  "no such layer in a kv cache: layer=" + std::to_string(layer) +
                      " layers=" + std::to_string(entry.shape.num_layers));
  }
  const int64_t layer_bytes = entry.extents[static_cast<size_t>(layer)].num_bytes;
  if (target_bytes == layer_bytes) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "a target of another size than the layer: size=" + std::to_string(target_bytes) +
                    " layer_bytes=" + std::to_string(layer_bytes));
}

std::string_view AsText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

KvCore::KvCore(const KvCoreOptions& options, std::unique_ptr<KvSegments> segments)
    : options_(options),
      segments_(std::move(segments)),
      table_(options.clock),
      memory_(options.memory_bytes_max),
      bytes_max_(options.bytes_max) {}

KvCore::~KvCore() {
  INTARSIA_CHECK(table_.num_pins() == 0);  // A KvHandle outlives its database.
  if (options_.is_read_only) return;
  RowBatch batch(options_.rocks);
  StageUses(&batch);
  // How often entries were used only ranks them; to lose some of it costs nothing.
  options_.rocks->Write(&batch, Durability::kBuffer).IgnoreError();
}

Result<std::unique_ptr<KvCore>> KvCore::Open(const KvCoreOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<KvSegments> segments,
                            KvSegments::Open({.file_system = options.file_system,
                                              .directory = options.directory,
                                              .uuid = options.uuid,
                                              .segment_bytes_max = options.segment_bytes_max}));
  auto core = std::make_unique<KvCore>(options, std::move(segments));
  core->segments_->SetSegmentBytesMax(core->SegmentBytesMax(options.bytes_max));
  INTARSIA_RETURN_IF_ERROR(core->Load());
  return core;
}

Result<KvHandle> KvCore::Find(const Digest& identity) {
  Result<KvHandle> handle =
      HandleOf(table_.Pin(identity, KvTable::Use::kCount), identity, KvTable::Use::kCount);
  ++(handle.ok() ? num_hits_ : num_misses_);
  return handle;
}

Result<KvHandle> KvCore::Peek(const Digest& identity) {
  return HandleOf(table_.Pin(identity, KvTable::Use::kIgnore), identity, KvTable::Use::kIgnore);
}

Result<KvHandle> KvCore::HandleOf(KvTable::Pinned pinned, const Digest& identity,
                                  KvTable::Use use) {
  if (pinned.slot == nullptr) return Missing(identity, "never stored or removed");
  // Compaction may move the entry and remove its segment between the lookup and the opening.
  Result<std::shared_ptr<const RandomAccessFile>> file = segments_->Reader(pinned.entry->segment);
  while (!file.ok()) {
    std::shared_ptr<const KvEntry> now = table_.EntryOf(*pinned.slot);
    if (now == pinned.entry) break;
    pinned.entry = std::move(now);
    file = segments_->Reader(pinned.entry->segment);
  }
  if (!file.ok()) {
    Quarantine(*pinned.slot, file.status());
    table_.Unpin(pinned.slot.get());
    return Missing(identity, file.status().message());
  }
  auto pin = std::make_unique<KvPin>(this, std::move(pinned), *std::move(file));
  if (use == KvTable::Use::kCount) pin->memory = memory_.Use(*pin->entry);
  // It was removed between the lookup and here, and nobody else would take it out again.
  if (!pin->slot->is_live.load()) memory_.Remove(identity);
  return KvHandle(std::move(pin));
}

int64_t KvCore::RemoveFromTable(const Digest& identity) {
  const bool is_removed = table_.Remove(identity);
  memory_.Remove(identity);
  return is_removed ? 1 : 0;
}

Status KvCore::ReadLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target) {
  INTARSIA_RETURN_IF_ERROR(CheckTarget(*pin.entry, layer, std::ssize(target)));
  const KvEntry& entry = *pin.entry;
  const KvExtent& extent = entry.extents[static_cast<size_t>(layer)];
  if (!pin.slot->is_live.load()) return Missing(entry.identity, "removed while in use");
  if (pin.memory != nullptr && pin.memory->Read(layer, target)) return Status::Ok();
  Status status = StreamOf(pin).ReadAt(extent.offset, extent.num_bytes, target.data());
  if (status.ok()) {
    const Checksum got = ChecksumOf(AsText(target));
    if (got != extent.checksum) {
      status = Status(StatusCode::kCorruption,
                      "checksum mismatch: segment=" + std::to_string(entry.segment) +
                          " offset=" + std::to_string(extent.offset) +
                          " want=" + extent.checksum.ToHex() + " got=" + got.ToHex());
    }
  }
  if (!status.ok()) {
    Quarantine(*pin.slot, status);
    return Missing(entry.identity, status.message());
  }
  return Keep(pin, layer, target);
}

Status KvCore::Keep(const KvPin& pin, int64_t layer, std::span<const uint8_t> payload) {
  if (!pin.slot->is_live.load()) return Missing(pin.entry->identity, "removed while in use");
  if (pin.memory != nullptr) pin.memory->Keep(layer, payload);
  return Status::Ok();
}

bool KvCore::StartLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target,
                        AsyncReader* reader, int64_t tag) {
  const KvEntry& entry = *pin.entry;
  if (layer < 0 || layer >= entry.shape.num_layers || !pin.slot->is_live.load()) return false;
  if (pin.memory != nullptr && pin.memory->Has(layer)) return false;
  const KvExtent& extent = entry.extents[static_cast<size_t>(layer)];
  const int64_t num_bytes = KvAligned(extent.num_bytes);
  if (std::ssize(target) < num_bytes || num_bytes > kDirectBytesMax) return false;
  std::call_once(pin.direct_opened, [&] { pin.direct = segments_->OpenDirect(entry.segment); });
  if (pin.direct == nullptr || pin.direct->IsCached(extent.offset, extent.num_bytes)) return false;
  reader->Start({.file = pin.direct.get(),
                 .offset = extent.offset,
                 .num_bytes = num_bytes,
                 .target = target.data(),
                 .tag = tag});
  return true;
}

Status KvCore::FinishLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target,
                           int64_t num_read) {
  INTARSIA_RETURN_IF_ERROR(CheckTarget(*pin.entry, layer, std::ssize(target)));
  const KvExtent& extent = pin.entry->extents[static_cast<size_t>(layer)];
  // Anything unusual is looked at again, and judged, by the ordinary read.
  if (num_read < extent.num_bytes || ChecksumOf(AsText(target)) != extent.checksum) {
    return ReadLayer(pin, layer, target);
  }
  return Keep(pin, layer, target);
}

const RandomAccessFile& KvCore::StreamOf(const KvPin& pin) const {
  std::call_once(pin.stream_opened,
                 [&] { pin.stream = segments_->OpenStream(pin.entry->segment); });
  return pin.stream == nullptr ? *pin.file : *pin.stream;
}

void KvCore::Quarantine(const KvSlot& slot, const Status& cause) {
  const Lock commit(*options_.commit_mutex);
  const Digest identity = table_.EntryOf(slot)->identity;
  if (!table_.RemoveSlot(slot)) return;  // Deleted, or found damaged by another reader.
  memory_.Remove(identity);
  ++num_quarantines_;
  Log(LogLevel::kWarning,
      "kv cache dropped: identity=" + identity.ToHex() + " cause=" + cause.ToString());
  if (options_.is_read_only) return;
  RowBatch batch(options_.rocks);
  KvRefRemoval removal(options_.rocks, &batch);
  Status status = removal.RemoveEntry(identity);
  if (status.ok()) status = options_.rocks->Write(&batch, Durability::kBuffer);
  // It stays in RocksDB then, and is found damaged again after the next Open.
  if (!status.ok()) Log(LogLevel::kWarning, "cannot drop a kv cache: " + status.ToString());
}

template <typename Stage>
Result<int64_t> KvCore::Delete(const Stage& stage) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const Lock commit(*options_.commit_mutex);
  // A Put that began before carries a smaller generation and is refused.
  const uint64_t generation = ++generation_;
  RowBatch batch(options_.rocks);
  KvRefRemoval removal(options_.rocks, &batch);
  INTARSIA_RETURN_IF_ERROR(stage(generation, &removal));
  INTARSIA_RETURN_IF_ERROR(removal.Finish());
  INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kSync));
  return Forget(removal.gone());
}

Result<int64_t> KvCore::DeleteByDocument(CollectionId collection, DocumentId document) {
  return Delete([&](uint64_t generation, KvRefRemoval* removal) {
    collections_cleared_[collection] = generation;
    return removal->RemoveOwners(KvDocumentPrefix(collection, document));
  });
}

Result<int64_t> KvCore::DeleteByCollection(CollectionId collection) {
  return Delete([&](uint64_t generation, KvRefRemoval* removal) {
    collections_cleared_[collection] = generation;
    return removal->RemoveOwners(KvCollectionPrefix(collection));
  });
}

Result<int64_t> KvCore::DeleteByModel(ModelId model) {
  return Delete([&](uint64_t generation, KvRefRemoval* removal) {
    models_cleared_[model] = generation;
    return removal->RemoveModel(model);
  });
}

Result<int64_t> KvCore::DeleteAll() {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const Lock append(append_mutex_);
  int64_t num_gone = 0;
  {
    const Lock commit(*options_.commit_mutex);
    all_cleared_ = ++generation_;
    RowBatch batch(options_.rocks);
    batch.DeleteRange(Family::kKvIndex, "e", "f");
    batch.DeleteRange(Family::kKvIndex, "p", "q");
    batch.DeleteRange(Family::kKvIndex, "u", "v");
    batch.DeleteRange(Family::kKvRefs, "d", "s");
    INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kSync));
    for (const Digest& identity : table_.ListIdentities()) num_gone += RemoveFromTable(identity);
  }
  segments_->CloseActive();
  RemoveEmptySegments();
  return num_gone;
}

int64_t KvCore::Forget(const std::set<Digest>& gone) {
  int64_t num_gone = 0;
  for (const Digest& identity : gone) num_gone += RemoveFromTable(identity);
  RemoveEmptySegments();
  return num_gone;
}

void KvCore::RemoveEmptySegments() {
  const std::map<uint64_t, KvTable::SegmentUse> uses = table_.SegmentUses();
  for (const auto& [number, num_bytes] : segments_->FileBytes()) {
    if (uses.contains(number) || number == segments_->active()) continue;
    // It is dead and counted as such; the next Open tries again.
    if (const Status status = segments_->Remove(number); !status.ok()) {
      Log(LogLevel::kWarning, status.ToString());
    }
  }
}

// A 128th, so that the copy that compaction makes of a segment is less than 1 % over the budget.
int64_t KvCore::SegmentBytesMax(int64_t bytes_max) const {
  return std::max(2 * kKvAlignment, std::min(options_.segment_bytes_max, bytes_max / 128));
}

int64_t KvCore::live_bytes() const {
  return table_.live_bytes() + kKvAlignment * table_.num_segments();
}

KvStats KvCore::stats() const {
  KvStats stats;
  stats.num_entries = table_.num_entries();
  stats.live_bytes = table_.live_bytes();
  stats.disk_bytes = segments_->disk_bytes();
  stats.num_segments = static_cast<int64_t>(segments_->FileBytes().size());
  stats.dead_bytes =
      std::max<int64_t>(0, stats.disk_bytes - kKvAlignment * stats.num_segments - stats.live_bytes);
  stats.bytes_max = bytes_max_.load();
  stats.num_pins = table_.num_pins();
  stats.num_retained = table_.num_retained();
  stats.retained_bytes = table_.retained_bytes();
  stats.hits = num_hits_.load();
  stats.misses = num_misses_.load();
  stats.puts = num_puts_.load();
  stats.evictions = num_evictions_.load();
  stats.expirations = num_expirations_.load();
  stats.quarantines = num_quarantines_.load();
  return stats;
}

Result<KvUsage> KvCore::UsageBelow(const std::string& prefix) const {
  INTARSIA_ASSIGN_OR_RETURN(const std::set<Digest> identities, CachesBelow(prefix));
  KvUsage usage;
  for (const Digest& identity : identities) {
    const std::optional<KvTable::Retained> cache = table_.Look(identity);
    if (!cache.has_value()) continue;
    const int64_t num_bytes = cache->entry->payload_bytes();
    usage.num_entries += 1;
    usage.num_bytes += num_bytes;
    if (cache->retention == KvRetention::kEvictable) continue;
    usage.num_retained += 1;
    usage.retained_bytes += num_bytes;
  }
  return usage;
}

}  // namespace intarsia::storage
