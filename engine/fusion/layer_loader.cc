#include "engine/fusion/layer_loader.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/stopwatch.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kAlignment = AlignedArray<uint8_t>::kAlignment;

}  // namespace

LayerLoader::LayerLoader(const Prompt& prompt, int32_t num_layers, int32_t kv_size)
    : prompt_(prompt), num_layers_(num_layers), kv_size_(kv_size) {
  for (const Segment& segment : prompt.segments()) {
    if (segment.cached == nullptr) {
      offsets_.push_back(-1);
      sizes_.push_back(0);
      continue;
    }
    // Negative for a type that is none, or no tokens; what has tokens fails when it is read.
    const int64_t size = std::max<int64_t>(
        0, kernels::KvPayloadBytes(segment.cached->type(), segment.size(), kv_size));
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

Status LayerLoader::ReadSegment(int32_t layer, size_t segment) {
  const int64_t num_tokens = prompt_.segments()[segment].size();
  if (num_tokens == 0) return Status::Ok();
  const KvSource& source = *prompt_.segments()[segment].cached;
  uint8_t* const target = memory_.data() + layer * bytes_per_layer_ + offsets_[segment];
  INTARSIA_RETURN_IF_ERROR(source.ReadLayer(layer, {target, static_cast<size_t>(sizes_[segment])}));
  const Status status =
      kernels::CheckKvPayload(source.type(), target, sizes_[segment], num_tokens, kv_size_);
  if (status.ok()) return status;
  return Status(StatusCode::kNotFound, std::string(status.message()));
}

void LayerLoader::Read() {
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    const Stopwatch stopwatch;
    for (size_t index = 0; index < offsets_.size(); ++index) {
      if (offsets_[index] < 0) continue;
      const Status status = ReadSegment(layer, index);
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
