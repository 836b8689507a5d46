#include "engine/stored_kv.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"

namespace intarsia::engine {
namespace {

Status Miss(const Status& status) {
  if (status.code() != StatusCode::kIo) return status;
  Log(LogLevel::kWarning, "KV cache cannot be read: " + status.ToString());
  return Status(StatusCode::kNotFound, std::string(status.message()));
}

}  // namespace

StoredKv::StoredKv(storage::KvStore* store, storage::KvHandle handle)
    : store_(store), handle_(std::move(handle)) {
  // Asked once, so that it is the same for all layers whatever others do meanwhile.
  is_pinned_ = handle_.shape().num_layers > 0 && store_->LayerInSource(handle_, 0) != nullptr;
}

KvPayloadType StoredKv::type() const {
  return static_cast<KvPayloadType>(handle_.shape().quantizer);
}
int64_t StoredKv::num_tokens() const { return handle_.shape().num_tokens; }
const Digest* StoredKv::identity() const { return &handle_.identity(); }

Status StoredKv::CheckShape(int32_t layer, int64_t num_bytes) const {
  if (layer >= 0 && layer < handle_.shape().num_layers && handle_.layer_bytes(layer) == num_bytes) {
    return Status::Ok();
  }
  return Status(StatusCode::kNotFound, "a stored KV cache has another shape than its model");
}

Status StoredKv::ReadLayer(int32_t layer, std::span<uint8_t> target) const {
  INTARSIA_RETURN_IF_ERROR(CheckShape(layer, std::ssize(target)));
  return Miss(store_->ReadLayer(handle_, layer, target));
}

bool StoredKv::StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                          int64_t tag) const {
  return layer >= 0 && layer < handle_.shape().num_layers &&
         handle_.DirectBytes(layer) == std::ssize(target) &&
         store_->StartLayer(handle_, layer, target, reader, tag);
}

Status StoredKv::FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const {
  INTARSIA_RETURN_IF_ERROR(CheckShape(layer, std::ssize(target)));
  return Miss(store_->FinishLayer(handle_, layer, target, num_read));
}

const uint8_t* StoredKv::PinnedLayer(int32_t layer) const {
  const bool is_layer = layer >= 0 && layer < handle_.shape().num_layers;
  return is_pinned_ && is_layer ? store_->LayerInSource(handle_, layer) : nullptr;
}

Result<storage::KvPutOutcome> PutKv(storage::KvStore* store, const MemoryKv& computed,
                                    const KvLabel& label) {
  std::vector<std::string_view> layers;
  for (const std::vector<uint8_t>& layer : computed.layers()) {
    layers.emplace_back(reinterpret_cast<const char*>(layer.data()), layer.size());
  }
  return store->Put({.identity = label.identity,
                     .shape = {.num_layers = std::ssize(layers),
                               .num_tokens = computed.num_tokens(),
                               .quantizer = static_cast<uint32_t>(computed.type())},
                     .layers = layers,
                     .owner = label.owner,
                     .generation = label.generation});
}

}  // namespace intarsia::engine
