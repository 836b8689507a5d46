#include "index/vector_file.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <functional>
#include <utility>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/rounding.h"

namespace intarsia::index {
namespace {

constexpr uint32_t kMagic = 0x46434556;  // "VECF"
constexpr uint32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 128;
constexpr int64_t kChecksumBytes = 16;
constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
constexpr int64_t kRowsMax = int64_t{1} << 32;
constexpr int64_t kDimMax = 65'536;
// The vectors begin at a multiple of this, so that they are aligned wherever the file is mapped.
constexpr int64_t kAlignment = 4'096;

// Where the parts of a file lie. All sizes fit: rows, dimensions and planes are bounded.
struct Layout {
  explicit Layout(const VectorFileHeader& header) {
    const int64_t n = header.num_rows;
    const int64_t words = (header.dim + 63) / 64;
    center = kHeaderBytes;
    ids = RoundUp(center + header.dim * 4, 8);
    contents = ids + n * 8;
    checksums = contents + n * 8;
    planes = checksums + n * 8;
    scales = planes + header.bits * n * words * 8;
    offsets = scales + n * 4;
    errors = offsets + n * 4;
    vectors = RoundUp(errors + n * 4, kAlignment);
    end = vectors + n * header.dim * 4;
  }
  int64_t center, ids, contents, checksums, planes, scales, offsets, errors, vectors, end;
};

Status Damaged(const std::string& path, const std::string& what) {
  return Status(StatusCode::kCorruption, "vector file cannot be used: " + what + " path=" + path);
}

std::string EncodeHeader(const VectorFileHeader& header) {
  ByteWriter writer;
  writer.Write(kMagic);
  writer.Write(kVersion);
  writer.WriteBytes({reinterpret_cast<const char*>(header.identity.database.data()),
                     header.identity.database.size()});
  writer.Write(header.identity.collection);
  writer.Write(header.identity.model);
  writer.Write(header.identity.generation);
  writer.Write(header.first_row);
  writer.Write(header.num_rows);
  writer.Write(header.dim);
  writer.Write(static_cast<uint32_t>(header.metric));
  writer.Write(header.bits);
  writer.Write(header.seed);
  writer.Write(header.num_fitted);
  writer.Write(header.body.low);
  writer.Write(header.body.high);
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

// `bytes` has kHeaderBytes.
Result<VectorFileHeader> DecodeHeader(std::string_view bytes, const std::string& path) {
  ByteReader reader(bytes, path);
  if (reader.Read<uint32_t>() != kMagic) return Damaged(path, "it does not begin as one");
  const auto version = reader.Read<uint32_t>();
  const std::string_view body = bytes.substr(0, kHeaderBytes - kChecksumBytes);
  ByteReader tail(bytes.substr(body.size()), path);
  Checksum want;
  want.low = tail.Read<uint64_t>();
  want.high = tail.Read<uint64_t>();
  if (ChecksumOf(body) != want) return Damaged(path, "its header is damaged");
  if (version != kVersion) {
    return Status(StatusCode::kUnsupported, "vector file of another version: version=" +
                                                std::to_string(version) + " path=" + path);
  }
  VectorFileHeader header;
  const std::string_view database = reader.ReadBytes(16);
  std::ranges::copy(database, header.identity.database.begin());
  header.identity.collection = reader.Read<uint64_t>();
  header.identity.model = reader.Read<uint64_t>();
  header.identity.generation = reader.Read<uint64_t>();
  header.first_row = reader.Read<int64_t>();
  header.num_rows = reader.Read<int64_t>();
  header.dim = reader.Read<int64_t>();
  const auto metric = reader.Read<uint32_t>();
  header.bits = reader.Read<int32_t>();
  header.seed = reader.Read<uint64_t>();
  header.num_fitted = reader.Read<int64_t>();
  header.body.low = reader.Read<uint64_t>();
  header.body.high = reader.Read<uint64_t>();
  INTARSIA_RETURN_IF_ERROR(reader.status());
  const bool is_in_range = header.first_row >= 0 && header.first_row <= kRowsMax &&
                           header.num_rows >= 1 && header.num_rows <= kRowsMax &&
                           header.num_rows % kBlock == 0 && header.dim >= 1 &&
                           header.dim <= kDimMax && metric <= 1 && header.bits >= 1 &&
                           header.bits <= 2 && header.num_fitted >= 0;
  if (!is_in_range) return Damaged(path, "its header is out of range");
  header.metric = static_cast<Metric>(metric);
  return header;
}

template <typename T>
std::string_view BytesOf(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

// The part of a file that begins at `offset`, whose bounds and alignment were checked.
template <typename T>
std::span<const T> PartOf(std::string_view bytes, int64_t offset, int64_t count) {
  return {reinterpret_cast<const T*>(bytes.data() + offset), static_cast<size_t>(count)};
}

// What lies between the header and the vectors.
std::string EncodeBody(const VectorFileParams& params, const BinaryCodeSpace& space,
                       const Layout& layout) {
  std::string body;
  body.reserve(static_cast<size_t>(layout.vectors - kHeaderBytes));
  const auto pad_to = [&body](int64_t offset) {
    body.resize(static_cast<size_t>(offset - kHeaderBytes), '\0');
  };
  const auto count = static_cast<size_t>(params.end - params.begin);
  body += BytesOf<float>(space.center);
  pad_to(layout.ids);
  body += BytesOf(params.rows->ids().subspan(static_cast<size_t>(params.begin), count));
  body += BytesOf(params.contents);
  for (int64_t slot = params.begin; slot < params.end; ++slot) {
    const uint64_t checksum = params.rows->row_checksum(slot);
    body += BytesOf<uint64_t>({&checksum, 1});
  }
  const kernels::BinaryCodeBlocks blocks =
      params.codes->CodeBlocks(params.begin / kBlock, params.end / kBlock);
  for (int64_t plane = 0; plane < blocks.num_planes; ++plane) {
    body +=
        BytesOf<uint64_t>({blocks.planes[plane], count * static_cast<size_t>(blocks.num_words)});
  }
  for (const float* const factors : {blocks.scales, blocks.offsets, blocks.errors}) {
    body += BytesOf<float>({factors, count});
  }
  pad_to(layout.vectors);
  return body;
}

Status WriteParts(AppendFile* file, const VectorFileHeader& header, const std::string& body,
                  const VectorFileParams& params) {
  INTARSIA_RETURN_IF_ERROR(file->Append(EncodeHeader(header)));
  INTARSIA_RETURN_IF_ERROR(file->Append(body));
  for (int64_t slot = params.begin; slot < params.end;) {
    const int64_t last = std::min(params.end, params.rows->page_end(slot));
    const float* const first = params.rows->row(slot).data();
    const int64_t num_values = (last - slot) * header.dim;
    // So that no damage is copied, and none is given a checksum of its own.
    for (; slot < last; ++slot) static_cast<void>(params.rows->row(slot));
    INTARSIA_RETURN_IF_ERROR(params.rows->CheckDamage());
    INTARSIA_RETURN_IF_ERROR(
        file->Append(BytesOf<float>({first, static_cast<size_t>(num_values)})));
  }
  return file->Sync();
}

Status CheckParams(const VectorFileParams& params, std::span<const uint64_t> ids) {
  const bool is_in_range = params.begin >= 0 && params.begin < params.end &&
                           params.end <= params.rows->size() && params.begin % kBlock == 0 &&
                           params.end % kBlock == 0 &&
                           params.codes->size() == params.rows->size() &&
                           std::ssize(params.contents) == params.end - params.begin;
  if (!is_in_range) {
    return Status(StatusCode::kInvalidArgument,
                  "vectors to write out of range: begin=" + std::to_string(params.begin) + " end=" +
                      std::to_string(params.end) + " size=" + std::to_string(params.rows->size()) +
                      " codes=" + std::to_string(params.codes->size()) +
                      " contents=" + std::to_string(params.contents.size()));
  }
  const auto written = ids.subspan(static_cast<size_t>(params.begin),
                                   static_cast<size_t>(params.end - params.begin));
  if (std::ranges::adjacent_find(written, std::greater_equal<>()) != written.end()) {
    return Status(StatusCode::kInvalidArgument, "ids of vectors to write do not ascend");
  }
  return Status::Ok();
}

}  // namespace

std::string UnfinishedVectorFile(const std::string& path) { return path + ".new"; }

Status WriteVectorFile(FileSystem* file_system, const std::string& path,
                       const VectorFileParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckParams(params, params.rows->ids()));
  const BinaryCodeSpace space = params.codes->space();
  VectorFileHeader header;
  header.identity = params.identity;
  header.first_row = params.begin;
  header.num_rows = params.end - params.begin;
  header.dim = params.rows->dim();
  header.metric = params.rows->metric();
  header.bits = space.bits;
  header.seed = space.seed;
  header.num_fitted = space.num_fitted;
  const std::string body = EncodeBody(params, space, Layout(header));
  header.body = ChecksumOf(body);
  const std::string unfinished = UnfinishedVectorFile(path);
  const auto write = [&]() -> Status {
    // What a crash has left would be appended to.
    if (file_system->Exists(unfinished)) {
      INTARSIA_RETURN_IF_ERROR(file_system->Remove(unfinished));
    }
    INTARSIA_ASSIGN_OR_RETURN(const auto file, file_system->OpenForAppending(unfinished));
    INTARSIA_RETURN_IF_ERROR(WriteParts(file.get(), header, body, params));
    return file_system->Rename(unfinished, path);
  };
  if (Status status = write(); !status.ok()) {
    file_system->Remove(unfinished).IgnoreError();  // What failed before is the error to tell.
    return status;
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  Status status = file_system->SyncDirectory(folder.empty() ? "." : folder);
  if (!status.ok()) file_system->Remove(path).IgnoreError();
  return status;
}

Result<VectorFileHeader> ReadVectorFileHeader(FileSystem* file_system, const std::string& path) {
  INTARSIA_ASSIGN_OR_RETURN(const auto file, file_system->OpenForReading(path));
  std::string bytes(static_cast<size_t>(kHeaderBytes), '\0');
  INTARSIA_RETURN_IF_ERROR(file->ReadAt(0, kHeaderBytes, bytes.data()));
  return DecodeHeader(bytes, path);
}

Result<std::shared_ptr<const VectorFile>> VectorFile::Open(FileSystem* file_system,
                                                           const std::string& path) {
  auto opened = std::shared_ptr<VectorFile>(new VectorFile());
  opened->path_ = path;
  INTARSIA_ASSIGN_OR_RETURN(opened->file_, file_system->Map(path));
  const std::string_view bytes = opened->file_->bytes();
  if (std::ssize(bytes) < kHeaderBytes) return Damaged(path, "it ends too early");
  INTARSIA_ASSIGN_OR_RETURN(opened->header_, DecodeHeader(bytes.substr(0, kHeaderBytes), path));
  const VectorFileHeader& header = opened->header_;
  const Layout layout(header);
  if (std::ssize(bytes) != layout.end) {
    return Damaged(path, "its size is another one: want=" + std::to_string(layout.end) +
                             " got=" + std::to_string(bytes.size()));
  }
  const std::string_view body = bytes.substr(static_cast<size_t>(kHeaderBytes),
                                             static_cast<size_t>(layout.vectors - kHeaderBytes));
  if (ChecksumOf(body) != header.body) return Damaged(path, "its codes or names are damaged");
  const int64_t n = header.num_rows;
  opened->center_ = PartOf<float>(bytes, layout.center, header.dim);
  opened->ids_ = PartOf<uint64_t>(bytes, layout.ids, n);
  opened->contents_ = PartOf<uint64_t>(bytes, layout.contents, n);
  opened->checksums_ = PartOf<uint64_t>(bytes, layout.checksums, n);
  kernels::BinaryCodeBlocks& codes = opened->codes_;
  codes.num_planes = header.bits;
  codes.num_words = (header.dim + 63) / 64;
  codes.num_blocks = n / kBlock;
  const auto planes = PartOf<uint64_t>(bytes, layout.planes, header.bits * n * codes.num_words);
  for (int32_t plane = 0; plane < header.bits; ++plane) {
    codes.planes[plane] = planes.data() + plane * n * codes.num_words;
  }
  codes.scales = PartOf<float>(bytes, layout.scales, n).data();
  codes.offsets = PartOf<float>(bytes, layout.offsets, n).data();
  codes.errors = PartOf<float>(bytes, layout.errors, n).data();
  opened->vectors_ = PartOf<float>(bytes, layout.vectors, n * header.dim);
  if (std::ranges::adjacent_find(opened->ids_, std::greater_equal<>()) != opened->ids_.end()) {
    return Damaged(path, "its ids do not ascend");
  }
  return std::shared_ptr<const VectorFile>(std::move(opened));
}

BinaryCodeSpace VectorFile::space() const {
  return {.dim = header_.dim,
          .bits = header_.bits,
          .seed = header_.seed,
          .num_fitted = header_.num_fitted,
          .center = {center_.begin(), center_.end()}};
}

ForeignRows VectorFile::RowsOf(const std::shared_ptr<const VectorFile>& file) {
  return {.rows = file->vectors_.data(),
          .checksums = file->checksums_.data(),
          .num_rows = file->header_.num_rows,
          .owner = file};
}

Status VectorFile::Verify() const {
  const auto dim = static_cast<size_t>(header_.dim);
  for (size_t row = 0; row < checksums_.size(); ++row) {
    if (ChecksumOfRow(vectors_.subspan(row * dim, dim)) != checksums_[row]) {
      return Damaged(path_, "a vector is damaged: row=" +
                                std::to_string(header_.first_row + static_cast<int64_t>(row)));
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::index
