#include "engine/fusion/device_caches.h"

#include <algorithm>
#include <utility>

#include "kernels/kv_codec.h"

namespace intarsia::engine {

// A source that is on the device, or comes there.
class DeviceCaches::Lease::HeldKv : public KvSource {
 public:
  HeldKv(const KvSource& source, std::shared_ptr<storage::KvMemoryEntry> entry)
      : source_(source), entry_(std::move(entry)), is_there_(entry_->InSource(0) != nullptr) {}

  KvPayloadType type() const override { return source_.type(); }
  int64_t num_tokens() const override { return source_.num_tokens(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    return source_.ReadLayer(layer, target);
  }
  const uint8_t* PinnedLayer(int32_t layer) const override { return source_.PinnedLayer(layer); }
  const uint8_t* DeviceLayer(int32_t layer) const override {
    return is_there_ ? entry_->InSource(layer) : nullptr;
  }
  uint8_t* DeviceTarget(int32_t layer) const override {
    return is_there_ ? nullptr : entry_->Target(layer);
  }
  const Digest* identity() const override { return source_.identity(); }

  bool is_there() const { return is_there_; }
  void SetFilled() { entry_->SetFilled(); }
  // Whether all layers are on the device by now.
  bool is_filled() const { return entry_->InSource(0) != nullptr; }

 private:
  const KvSource& source_;
  const std::shared_ptr<storage::KvMemoryEntry> entry_;
  const bool is_there_;
};

DeviceCaches::Lease::Lease(DeviceCaches* caches, const Prompt& prompt,
                           const model::ModelConfig& config)
    : caches_(*caches), prompt_(prompt), held_(prompt.segments().size()) {
  for (size_t index = 0; index < held_.size(); ++index) {
    const Segment& segment = prompt.segments()[index];
    if (segment.cached == nullptr || segment.cached->identity() == nullptr) continue;
    const int64_t layer_bytes =
        kernels::KvPayloadBytes(segment.cached->type(), segment.size(), config.kv_size());
    if (layer_bytes <= 0) continue;
    storage::KvEntry entry;
    entry.identity = *segment.cached->identity();
    entry.shape = {.num_layers = config.num_layers,
                   .num_tokens = segment.size(),
                   .quantizer = static_cast<uint32_t>(segment.cached->type())};
    entry.extents.resize(static_cast<size_t>(config.num_layers),
                         {.offset = 0, .num_bytes = layer_bytes, .checksum = {}});
    std::shared_ptr<storage::KvMemoryEntry> held = caches_.caches_.Use(entry);
    if (held == nullptr) continue;
    held_[index] = std::make_unique<HeldKv>(*segment.cached, std::move(held));
    prompt_ = prompt_.WithSource(index, held_[index].get());
  }
}

void DeviceCaches::Lease::Keep(std::span<const size_t> lost_segments) {
  for (size_t index = 0; index < held_.size(); ++index) {
    if (held_[index] == nullptr || held_[index]->is_there()) continue;
    if (std::ranges::find(lost_segments, index) != lost_segments.end()) continue;
    held_[index]->SetFilled();
  }
}

DeviceCaches::Lease::~Lease() {
  for (const std::unique_ptr<HeldKv>& held : held_) {
    if (held != nullptr && !held->is_filled()) caches_.caches_.Remove(*held->identity());
  }
}

}  // namespace intarsia::engine
