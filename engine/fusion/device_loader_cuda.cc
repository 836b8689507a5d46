#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "engine/fusion/device_loader.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kNumSlotsMax = 64;

// Layers that the caller enqueues itself where nothing is read, so that they are on the way before
// a thread has started.
constexpr int32_t kFirstLayers = 2;
// What is larger goes back to the device's pool, where others find it.
constexpr int64_t kKeptBytesMax = int64_t{1} << 30;

int64_t Aligned(int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Status PinnedStaging::Prepare(int64_t slot_bytes) {
  slot_bytes = Aligned(slot_bytes);
  if (slot_bytes > budget_bytes_) {
    return {StatusCode::kResourceExhausted,
            "a layer of one cache does not fit into the pinned staging memory: bytes=" +
                std::to_string(slot_bytes) + " budget=" + std::to_string(budget_bytes_)};
  }
  if (slot_bytes <= slot_bytes_) return Status::Ok();
  const int64_t num_slots = std::min(kNumSlotsMax, budget_bytes_ / slot_bytes);
  if (memory_.num_bytes() < num_slots * slot_bytes) {
    memory_ = kernels::PinnedBuffer();
    INTARSIA_ASSIGN_OR_RETURN(memory_, kernels::PinnedBuffer::Allocate(num_slots * slot_bytes));
  }
  events_.clear();
  for (int64_t i = 0; i < num_slots; ++i) {
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent event,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    events_.push_back(std::move(event));
  }
  slot_bytes_ = slot_bytes;
  next_ = last_ = 0;
  return Status::Ok();
}

Result<std::span<uint8_t>> PinnedStaging::Next() {
  INTARSIA_CHECK(!events_.empty());
  last_ = next_;
  next_ = (next_ + 1) % events_.size();
  INTARSIA_RETURN_IF_ERROR(events_[last_].Wait());
  return std::span<uint8_t>(memory_.as<uint8_t>() + static_cast<int64_t>(last_) * slot_bytes_,
                            static_cast<size_t>(slot_bytes_));
}

Status PinnedStaging::MarkInUse(kernels::Stream stream) { return events_[last_].Record(stream); }

void PinnedStaging::Drain() {
  // An error here was or will be seen by the computing stream too.
  for (const kernels::DeviceEvent& event : events_) event.Wait().IgnoreError();
}

Status LoadReserve::Prepare(int32_t num_layers, int64_t num_bytes, kernels::Stream stream) {
  if (!begin_.has_value()) {
    INTARSIA_ASSIGN_OR_RETURN(begin_, kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
  }
  while (std::ssize(marks_) < num_layers) {
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent copied,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent placed,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent before_wait,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
    marks_.push_back({.copied = std::move(copied),
                      .placed = std::move(placed),
                      .before_wait = std::move(before_wait)});
  }
  for (Marks& marks : marks_) marks.is_waited = marks.is_placed = false;
  if (memory_.num_bytes() >= num_bytes) return Status::Ok();
  memory_ = kernels::DeviceBuffer();  // first, so that both never exist together
  INTARSIA_ASSIGN_OR_RETURN(memory_, kernels::DeviceBuffer::Allocate(num_bytes, stream));
  return Status::Ok();
}

void LoadReserve::Trim() {
  if (memory_.num_bytes() > kKeptBytesMax) memory_ = kernels::DeviceBuffer();
}

DeviceLoader::DeviceLoader(const Prompt& prompt, int32_t num_layers, int32_t kv_size,
                           const Streams& streams, LoadReserve* reserve)
    : prompt_(prompt),
      num_layers_(num_layers),
      kv_size_(kv_size),
      streams_(streams),
      reserve_(*reserve) {}

Result<std::unique_ptr<DeviceLoader>> DeviceLoader::Start(const Prompt& prompt, int32_t num_layers,
                                                          int32_t kv_size, const Streams& streams,
                                                          LoadReserve* reserve) {
  std::unique_ptr<DeviceLoader> loader(
      new DeviceLoader(prompt, num_layers, kv_size, streams, reserve));
  INTARSIA_RETURN_IF_ERROR(loader->Allocate());
  INTARSIA_RETURN_IF_ERROR(loader->EnqueueFirst());
  if (loader->num_enqueued_ == num_layers) return loader;
  loader->thread_ = std::thread([raw = loader.get()] { raw->Enqueue(); });
  return loader;
}

Status DeviceLoader::Allocate() {
  int64_t read_bytes_max = 0;
  for (const Segment& segment : prompt_.segments()) {
    int64_t size = 0;
    if (segment.cached != nullptr && segment.size() > 0) {
      size = kernels::KvPayloadBytes(segment.cached->type(), segment.size(), kv_size_);
      if (size < 0) {
        return {StatusCode::kUnsupported, "a cache of an unknown type cannot be loaded"};
      }
    }
    const bool is_copied = size > 0 && segment.cached->DeviceLayer(0) == nullptr;
    const bool is_read = is_copied && segment.cached->PinnedLayer(0) == nullptr;
    if (is_read) read_bytes_max = std::max(read_bytes_max, size);
    (is_read ? bytes_.read : is_copied ? bytes_.pinned : bytes_.on_device) += size * num_layers_;
    offsets_.push_back(is_copied ? bytes_per_layer_ : -1);
    sizes_.push_back(size);
    if (is_copied && segment.cached->DeviceTarget(0) == nullptr) bytes_per_layer_ += Aligned(size);
  }
  if (read_bytes_max > 0) INTARSIA_RETURN_IF_ERROR(reserve_.staging_.Prepare(read_bytes_max));
  INTARSIA_RETURN_IF_ERROR(
      reserve_.Prepare(num_layers_, bytes_per_layer_ * num_layers_, streams_.compute));
  std::vector<const uint8_t*> pointers;
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    for (size_t index = 0; index < offsets_.size(); ++index) {
      const KvSource* const cached = prompt_.segments()[index].cached;
      pointers.push_back(offsets_[index] >= 0 ? TargetOf(layer, index)
                         : sizes_[index] > 0  ? cached->DeviceLayer(layer)
                                              : nullptr);
    }
  }
  pointers_at_ = tables_.Add<const uint8_t*>(pointers);
  INTARSIA_RETURN_IF_ERROR(tables_.Upload(streams_.arena, streams_.compute));
  // The copying stream may use the memory from where the computing stream is now.
  INTARSIA_RETURN_IF_ERROR(reserve_.begin_->Record(streams_.compute));
  INTARSIA_RETURN_IF_ERROR(reserve_.begin_->HoldBack(streams_.copy));
  return reserve_.begin_->Record(streams_.copy);
}

Status DeviceLoader::EnqueueFirst() {
  if (bytes_.read > 0) return Status::Ok();  // a read is not to be waited for here
  if (bytes_.pinned == 0) {
    num_enqueued_ = num_layers_;  // marks that were reached long ago hold up nothing
    return Status::Ok();
  }
  for (; num_enqueued_ < std::min(kFirstLayers, num_layers_); ++num_enqueued_) {
    INTARSIA_RETURN_IF_ERROR(EnqueueLayer(num_enqueued_));
  }
  return Status::Ok();
}

DeviceLoader::~DeviceLoader() {
  if (thread_.joinable()) {
    {
      const std::scoped_lock lock(mutex_);
      is_stopping_ = true;
    }
    thread_.join();
  }
  // Copies must be done before their target is given back, or used again, on the other stream.
  kernels::WaitFor(streams_.copy).IgnoreError();
  reserve_.Trim();
}

uint8_t* DeviceLoader::TargetOf(int32_t layer, size_t segment) const {
  uint8_t* const target = prompt_.segments()[segment].cached->DeviceTarget(layer);
  return target != nullptr
             ? target
             : reserve_.memory_.as<uint8_t>() + layer * bytes_per_layer_ + offsets_[segment];
}

Status DeviceLoader::EnqueueSegment(int32_t layer, size_t segment) {
  const KvSource& source = *prompt_.segments()[segment].cached;
  uint8_t* const target = TargetOf(layer, segment);
  const int64_t size = sizes_[segment];
  if (const uint8_t* const pinned = source.PinnedLayer(layer); pinned != nullptr) {
    pinned_copies_.push_back({.target = target, .source = pinned, .num_bytes = size});
    return Status::Ok();
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::span<uint8_t> slot, reserve_.staging_.Next());
  const std::span<uint8_t> payload = slot.first(static_cast<size_t>(size));
  INTARSIA_RETURN_IF_ERROR(source.ReadLayer(layer, payload));
  const Status status = kernels::CheckKvPayload(source.type(), payload.data(), size,
                                                prompt_.segments()[segment].size(), kv_size_);
  if (!status.ok()) return {StatusCode::kNotFound, std::string(status.message())};
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(target, payload.data(), size, streams_.copy));
  return reserve_.staging_.MarkInUse(streams_.copy);
}

Status DeviceLoader::EnqueueLayer(int32_t layer) {
  pinned_copies_.clear();
  for (size_t index = 0; index < offsets_.size(); ++index) {
    {
      const std::scoped_lock lock(mutex_);
      if (is_stopping_) return {StatusCode::kCancelled, "the load was given up"};
    }
    if (offsets_[index] < 0) continue;
    const Status status = EnqueueSegment(layer, index);
    if (!status.ok()) {
      const std::scoped_lock lock(mutex_);
      failed_segment_ = index;
      return status;
    }
  }
  INTARSIA_RETURN_IF_ERROR(kernels::CopyAllToDevice(pinned_copies_, streams_.copy));
  return marks(layer).copied.Record(streams_.copy);
}

void DeviceLoader::Enqueue() {
  Status status = kernels::UseDevice(streams_.device);
  // Only this thread changes the count from here on.
  for (int32_t layer = num_enqueued_; layer < num_layers_ && status.ok(); ++layer) {
    status = EnqueueLayer(layer);
    if (!status.ok()) break;
    const std::scoped_lock lock(mutex_);
    num_enqueued_ = layer + 1;
    changed_.notify_all();
  }
  if (status.ok()) return;
  const std::scoped_lock lock(mutex_);
  error_ = status;
  changed_.notify_all();
}

Status DeviceLoader::WaitUntilEnqueued(int32_t layer) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return num_enqueued_ > layer || !error_.ok(); });
  return num_enqueued_ > layer ? Status::Ok() : error_;
}

Status DeviceLoader::HoldBackPlacing(int32_t layer, kernels::Stream placing) {
  INTARSIA_RETURN_IF_ERROR(WaitUntilEnqueued(layer));
  return marks(layer).copied.HoldBack(placing);
}

Status DeviceLoader::MarkPlaced(int32_t layer, kernels::Stream placing) {
  marks(layer).is_placed = true;
  return marks(layer).placed.Record(placing);
}

Status DeviceLoader::HoldBack(int32_t layer) {
  INTARSIA_RETURN_IF_ERROR(WaitUntilEnqueued(layer));
  LoadReserve::Marks& of_layer = marks(layer);
  if (of_layer.is_waited) return Status::Ok();
  // A mark between kernels costs microseconds, for the later one cannot begin beside the other.
  if (!is_loading() && !of_layer.is_placed) return Status::Ok();
  of_layer.is_waited = true;
  INTARSIA_RETURN_IF_ERROR(of_layer.before_wait.Record(streams_.compute));
  return of_layer.awaited().HoldBack(streams_.compute);
}

std::optional<size_t> DeviceLoader::failed_segment() const {
  const std::scoped_lock lock(mutex_);
  return failed_segment_;
}

const uint8_t* const* DeviceLoader::payloads(int32_t layer) const {
  return tables_.At<const uint8_t*>(pointers_at_) + layer * static_cast<int64_t>(offsets_.size());
}

const uint8_t* DeviceLoader::payload(int32_t layer, size_t segment) const {
  return offsets_[segment] >= 0 ? TargetOf(layer, segment)
                                : prompt_.segments()[segment].cached->DeviceLayer(layer);
}

Result<double> DeviceLoader::LoadMilliseconds() const {
  if (!is_loading()) return 0.0;
  INTARSIA_ASSIGN_OR_RETURN(const float milliseconds,
                            marks(num_layers_ - 1).copied.MillisecondsSince(*reserve_.begin_));
  return double{milliseconds};
}

Result<double> DeviceLoader::WaitMilliseconds() const {
  double sum = 0.0;
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    const LoadReserve::Marks& of_layer = marks(layer);
    if (!of_layer.is_waited || !is_loading()) continue;
    INTARSIA_ASSIGN_OR_RETURN(const float milliseconds,
                              of_layer.awaited().MillisecondsSince(of_layer.before_wait));
    sum += std::max(0.0, double{milliseconds});
  }
  return sum;
}

}  // namespace intarsia::engine
