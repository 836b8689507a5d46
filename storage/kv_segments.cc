#include "storage/kv_segments.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"

namespace intarsia::storage {
namespace {

constexpr std::string_view kMagic = "INTARKVS";
constexpr uint32_t kSegmentVersion = 1;
constexpr int64_t kHeaderBytes = 52;  // Of what a header says; zeros follow to kKvAlignment.
constexpr std::string_view kNamePrefix = "segment-";
constexpr std::string_view kNameSuffix = ".kv";
// Readers kept open beyond this are closed when nobody uses them.
constexpr size_t kOpenReadersMax = 128;

// The number in "segment-000012.kv", or 0.
uint64_t NumberInName(std::string_view name) {
  if (!name.starts_with(kNamePrefix) || !name.ends_with(kNameSuffix)) return 0;
  name.remove_prefix(kNamePrefix.size());
  name.remove_suffix(std::min(name.size(), kNameSuffix.size()));
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? number : 0;
}

}  // namespace

std::string EncodeSegmentHeader(std::string_view uuid, uint64_t number) {
  ByteWriter writer;
  writer.WriteBytes(kMagic);
  writer.Write(kSegmentVersion);
  writer.Write(number);
  writer.WriteBytes(uuid);
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  std::string header = std::move(writer).TakeBytes();
  header.resize(static_cast<size_t>(kKvAlignment));
  return header;
}

Result<std::unique_ptr<KvSegments>> KvSegments::Open(const KvSegmentsOptions& options) {
  auto segments = std::make_unique<KvSegments>(options);
  if (!options.file_system->Exists(options.directory)) return segments;
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                            options.file_system->List(options.directory));
  for (const DirectoryEntry& entry : entries) {
    const uint64_t number = entry.is_directory ? 0 : NumberInName(entry.name);
    if (number == 0) continue;
    segments->file_bytes_[number] = entry.num_bytes;
    segments->ReserveNumbersBelow(number + 1);
  }
  return segments;
}

std::string SegmentName(uint64_t number) {
  std::string digits = std::to_string(number);
  digits.insert(0, digits.size() < 6 ? 6 - digits.size() : 0, '0');
  return std::string(kNamePrefix) + digits + std::string(kNameSuffix);
}

std::string KvSegments::PathOf(uint64_t number) const {
  return options_.directory + "/" + SegmentName(number);
}

Result<KvSegments::Placed> KvSegments::Append(std::span<const std::string_view> layers) {
  int64_t num_bytes = 0;
  for (const std::string_view layer : layers) {
    num_bytes += KvAligned(static_cast<int64_t>(layer.size()));
  }
  if (writer_ != nullptr && writer_->size() > kKvAlignment &&
      writer_->size() + num_bytes > segment_bytes_max_.load()) {
    CloseActive();
  }
  if (writer_ == nullptr) INTARSIA_RETURN_IF_ERROR(StartSegment());

  Placed placed{.segment = active(), .extents = {}};
  for (const std::string_view layer : layers) {
    KvExtent extent;
    if (Status status = AppendExtent(layer, &extent); !status.ok()) {
      Abandon();
      return status;
    }
    placed.extents.push_back(extent);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  file_bytes_[placed.segment] = writer_->size();
  return placed;
}

Status KvSegments::AppendExtent(std::string_view payload, KvExtent* extent) {
  static constexpr char kZeros[kKvAlignment] = {};
  extent->offset = writer_->size();
  extent->num_bytes = static_cast<int64_t>(payload.size());
  extent->checksum = ChecksumOf(payload);
  INTARSIA_RETURN_IF_ERROR(writer_->Append(payload));
  const int64_t padding = KvAligned(extent->num_bytes) - extent->num_bytes;
  if (padding == 0) return Status::Ok();
  return writer_->Append(std::string_view(kZeros, static_cast<size_t>(padding)));
}

Status KvSegments::StartSegment() {
  INTARSIA_RETURN_IF_ERROR(options_.file_system->CreateDirectories(options_.directory));
  const uint64_t number = next_number();
  // Whatever happens, the number is spent: a file that was begun is never taken for a new one.
  ReserveNumbersBelow(number + 1);
  INTARSIA_ASSIGN_OR_RETURN(writer_, options_.file_system->OpenForAppending(PathOf(number)));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    active_ = number;
    file_bytes_[number] = writer_->size();
  }
  if (writer_->size() != 0) {
    CloseActive();
    return Status(StatusCode::kIo, "a new segment exists already: " + PathOf(number));
  }
  Status status = writer_->Append(EncodeSegmentHeader(options_.uuid, number));
  if (!status.ok()) {
    Abandon();
    return status;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  file_bytes_[number] = kKvAlignment;
  return Status::Ok();
}

Status KvSegments::Resume(uint64_t number) {
  INTARSIA_RETURN_IF_ERROR(Reader(number).status());
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> writer,
                            options_.file_system->OpenForAppending(PathOf(number)));
  // What a crash left behind the last extent is dead; only the alignment has to be restored.
  const int64_t padding = KvAligned(writer->size()) - writer->size();
  if (padding != 0) {
    INTARSIA_RETURN_IF_ERROR(writer->Append(std::string(static_cast<size_t>(padding), '\0')));
  }
  writer_ = std::move(writer);
  const std::lock_guard<std::mutex> lock(mutex_);
  active_ = number;
  file_bytes_[number] = writer_->size();
  return Status::Ok();
}

void KvSegments::CloseActive() {
  writer_.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  active_ = 0;
}

void KvSegments::Abandon() {
  const uint64_t number = active();
  CloseActive();
  auto file = options_.file_system->OpenForReading(PathOf(number));
  if (!file.ok()) return;
  if (const Result<int64_t> size = (*file)->Size(); size.ok()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    file_bytes_[number] = *size;
  }
}

Status KvSegments::Sync() { return writer_ == nullptr ? Status::Ok() : writer_->Sync(); }

Status KvSegments::CheckHeader(const RandomAccessFile& file, uint64_t number) const {
  std::string header(static_cast<size_t>(kHeaderBytes), '\0');
  INTARSIA_RETURN_IF_ERROR(file.ReadAt(0, kHeaderBytes, header.data()));
  const std::string want = EncodeSegmentHeader(options_.uuid, number);
  if (header != std::string_view(want).substr(0, static_cast<size_t>(kHeaderBytes))) {
    return Status(StatusCode::kCorruption,
                  "not a segment of this database or damaged: " + PathOf(number));
  }
  return Status::Ok();
}

Result<std::shared_ptr<const RandomAccessFile>> KvSegments::Reader(uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = readers_.find(number); found != readers_.end()) return found->second;
  if (!file_bytes_.contains(number)) {
    return Status(StatusCode::kNotFound, "no such segment: " + PathOf(number));
  }
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file,
                            options_.file_system->OpenForReading(PathOf(number)));
  INTARSIA_RETURN_IF_ERROR(CheckHeader(*file, number));
  if (readers_.size() >= kOpenReadersMax) {
    std::erase_if(readers_, [](const auto& reader) { return reader.second.use_count() == 1; });
  }
  std::shared_ptr<const RandomAccessFile> reader = std::move(file);
  readers_[number] = reader;
  return reader;
}

std::unique_ptr<RandomAccessFile> KvSegments::OpenStream(uint64_t number) const {
  auto file = options_.file_system->OpenForReading(PathOf(number));
  return file.ok() ? *std::move(file) : nullptr;
}

std::unique_ptr<DirectFile> KvSegments::OpenDirect(uint64_t number) const {
  return options_.file_system->OpenDirect(PathOf(number));
}

Status KvSegments::Remove(uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  readers_.erase(number);
  if (file_bytes_.erase(number) == 0) return Status::Ok();
  return options_.file_system->Remove(PathOf(number));
}

uint64_t KvSegments::active() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return active_;
}

std::map<uint64_t, int64_t> KvSegments::FileBytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return file_bytes_;
}

int64_t KvSegments::disk_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t sum = 0;
  for (const auto& [number, num_bytes] : file_bytes_) sum += num_bytes;
  return sum;
}

void KvSegments::ReserveNumbersBelow(uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  next_number_ = std::max(next_number_, number);
}

uint64_t KvSegments::next_number() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return next_number_;
}

}  // namespace intarsia::storage
