#include "engine/fusion/layer_loader.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/stopwatch.h"

namespace intarsia::engine {
namespace {

// Rooms of payloads are whole pages, for reads past the page cache.
constexpr int64_t kAlignment = AsyncReader::kAlignment;
// Reads in flight: the best of 4, 16 and 64 in bench/storage/kv_read_ahead_bench.
constexpr int kReadsMax = 16;

}  // namespace

LayerLoader::LayerLoader(const Prompt& prompt, const model::Transformer& transformer)
    : prompt_(prompt), transformer_(transformer) {
  for (size_t index = 0; index < prompt.segments().size(); ++index) {
    const Segment& segment = prompt.segments()[index];
    offsets_.push_back(-1);
    sizes_.push_back(0);
    if (segment.cached == nullptr) continue;
    cached_.push_back(index);
    // Negative for a type that is none, or no tokens; what has tokens fails when it is read.
    sizes_.back() =
        std::max<int64_t>(0, kernels::KvPayloadBytes(segment.cached->type(), segment.size(),
                                                     transformer.config().kv_size()));
    if (!segment.cached->Resident(0).empty()) continue;
    offsets_.back() = bytes_per_layer_;
    bytes_per_layer_ += (sizes_.back() + kAlignment - 1) / kAlignment * kAlignment;
  }
  const auto num_layers = static_cast<size_t>(transformer.config().num_layers);
  payloads_.resize(num_layers * sizes_.size());
  is_loaded_.resize(num_layers);
}

Result<std::unique_ptr<LayerLoader>> LayerLoader::Create(const Prompt& prompt,
                                                         const model::Transformer& transformer) {
  std::unique_ptr<LayerLoader> loader(new LayerLoader(prompt, transformer));
  INTARSIA_ASSIGN_OR_RETURN(
      loader->memory_, AlignedArray<uint8_t>::TryCreate(
                           loader->bytes_per_layer_ * transformer.config().num_layers + kAlignment,
                           transformer.memory_pool()));
  uint8_t* const begin = loader->memory_.data();
  loader->rooms_ =
      begin + (kAlignment - reinterpret_cast<uintptr_t>(begin) % kAlignment) % kAlignment;
  if (loader->bytes_per_layer_ > 0) loader->reader_ = AsyncReader::Create(kReadsMax);
  if (loader->reader_ != nullptr) {
    loader->reads_ = std::vector<std::atomic<int64_t>>(loader->payloads_.size());
    for (std::atomic<int64_t>& read : loader->reads_) read = kPending;
    loader->thread_ = std::thread([reading = loader.get()] { reading->ReadBeside(); });
  }
  return loader;
}

LayerLoader::~LayerLoader() {
  is_stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

std::span<uint8_t> LayerLoader::RoomFor(int32_t layer, size_t segment) const {
  const int64_t size = (sizes_[segment] + kAlignment - 1) / kAlignment * kAlignment;
  return {rooms_ + layer * bytes_per_layer_ + offsets_[segment], static_cast<size_t>(size)};
}

void LayerLoader::ReadBeside() {
  for (int32_t layer = 0; layer < transformer_.config().num_layers; ++layer) {
    for (const size_t segment : cached_) {
      if (is_stopping_) break;  // nobody waits any more
      if (offsets_[segment] < 0) continue;
      while (reader_->is_full()) Settle();
      const size_t index = IndexOf(layer, segment);
      const KvSource& source = *prompt_.segments()[segment].cached;
      if (source.StartLayer(layer, RoomFor(layer, segment), reader_.get(),
                            static_cast<int64_t>(index))) {
        continue;
      }
      reads_[index] = kLeft;
      reads_[index].notify_all();
    }
  }
  while (reader_->num_in_flight() > 0) Settle();
}

void LayerLoader::Settle() {
  for (const AsyncReader::Done& done : reader_->Wait()) {
    std::atomic<int64_t>& read = reads_[static_cast<size_t>(done.tag)];
    read = done.num_bytes;
    read.notify_all();
  }
}

Status LayerLoader::LoadSegment(int32_t layer, size_t segment) {
  const int64_t num_tokens = prompt_.segments()[segment].size();
  if (num_tokens == 0) return Status::Ok();
  const KvSource& source = *prompt_.segments()[segment].cached;
  const auto size = static_cast<size_t>(sizes_[segment]);
  if (offsets_[segment] < 0) {
    const std::span<const uint8_t> resident = source.Resident(layer);
    if (resident.size() != size) {
      return Status(StatusCode::kInvalidArgument,
                    "KV payload has another size: layer=" + std::to_string(layer) + " want=" +
                        std::to_string(size) + " got=" + std::to_string(resident.size()));
    }
    PayloadAt(layer, segment) = resident.data();
  } else {
    const std::span<uint8_t> target = RoomFor(layer, segment).first(size);
    int64_t num_read = kLeft;
    if (!reads_.empty()) {
      reads_[IndexOf(layer, segment)].wait(kPending);
      num_read = reads_[IndexOf(layer, segment)];
    }
    INTARSIA_RETURN_IF_ERROR(num_read == kLeft ? source.ReadLayer(layer, target)
                                               : source.FinishLayer(layer, target, num_read));
    PayloadAt(layer, segment) = target.data();
  }
  const Status status =
      kernels::CheckKvPayload(source.type(), PayloadAt(layer, segment), sizes_[segment], num_tokens,
                              transformer_.config().kv_size());
  if (status.ok()) return status;
  return Status(StatusCode::kNotFound, std::string(status.message()));
}

Status LayerLoader::Load(int32_t layer) {
  if (is_loaded_[static_cast<size_t>(layer)]) return Status::Ok();
  const Stopwatch clock;
  std::vector<Status> errors(cached_.size());
  std::vector<double> seconds(cached_.size());
  transformer_.pool()->ParallelFor(std::ssize(cached_), [&](int64_t item, int) {
    const Stopwatch stopwatch;
    const auto at = static_cast<size_t>(item);
    errors[at] = LoadSegment(layer, cached_[at]);
    seconds[at] = stopwatch.seconds();
  });
  for (const double second : seconds) load_seconds_ += second;
  wait_seconds_ += clock.seconds();
  for (size_t at = 0; at < cached_.size(); ++at) {
    if (errors[at].ok()) continue;
    failed_segment_ = cached_[at];
    return errors[at];
  }
  is_loaded_[static_cast<size_t>(layer)] = true;
  return Status::Ok();
}

const uint8_t* LayerLoader::payload(int32_t layer, size_t segment) const {
  INTARSIA_CHECK(is_loaded_[static_cast<size_t>(layer)]);
  return payloads_[IndexOf(layer, segment)];
}

}  // namespace intarsia::engine
