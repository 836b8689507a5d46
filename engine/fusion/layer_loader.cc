#include "engine/fusion/layer_loader.h"

#include "base/check.h"
#include "base/stopwatch.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kAlignment = AlignedArray<uint8_t>::kAlignment;

}  // namespace

LayerLoader::LayerLoader(const Prompt& prompt, int32_t num_layers, int32_t kv_size)
    : prompt_(prompt), num_layers_(num_layers) {
  for (const Segment& segment : prompt.segments()) {
    if (segment.cached == nullptr) {
      offsets_.push_back(-1);
      sizes_.push_back(0);
      continue;
    }
    const int64_t size = 2 * segment.size() * kv_size * KvElementBytes(segment.cached->type());
    offsets_.push_back(bytes_per_layer_);
    sizes_.push_back(size);
    bytes_per_layer_ += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  memory_ = AlignedArray<uint8_t>(bytes_per_layer_ * num_layers);
  thread_ = std::thread([this] { Read(); });
}

LayerLoader::~LayerLoader() {
  {
    const std::scoped_lock lock(mutex_);
    is_stopping_ = true;
  }
  thread_.join();
}

void LayerLoader::Read() {
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    const Stopwatch stopwatch;
    for (size_t index = 0; index < offsets_.size(); ++index) {
      if (offsets_[index] < 0) continue;
      uint8_t* const target = memory_.data() + layer * bytes_per_layer_ + offsets_[index];
      const Status status = prompt_.segments()[index].cached->ReadLayer(
          layer, {target, static_cast<size_t>(sizes_[index])});
      const std::scoped_lock lock(mutex_);
      if (!status.ok()) {
        error_ = status;
        failed_segment_ = index;
        changed_.notify_all();
        return;
      }
      if (is_stopping_) return;
    }
    const std::scoped_lock lock(mutex_);
    load_seconds_ += stopwatch.seconds();
    num_loaded_ = layer + 1;
    changed_.notify_all();
  }
}

Status LayerLoader::Wait(int32_t layer) {
  const Stopwatch stopwatch;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return num_loaded_ > layer || !error_.ok(); });
  wait_seconds_ += stopwatch.seconds();
  return num_loaded_ > layer ? Status::Ok() : error_;
}

std::optional<size_t> LayerLoader::failed_segment() const {
  const std::scoped_lock lock(mutex_);
  return failed_segment_;
}

double LayerLoader::load_seconds() const {
  const std::scoped_lock lock(mutex_);
  return load_seconds_;
}

const uint8_t* LayerLoader::payload(int32_t layer, size_t segment) const {
  INTARSIA_CHECK(offsets_[segment] >= 0);
  return memory_.data() + layer * bytes_per_layer_ + offsets_[segment];
}

}  // namespace intarsia::engine
