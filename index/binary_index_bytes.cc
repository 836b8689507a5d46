#include <cmath>
#include <utility>

#include "base/bytes.h"
#include "base/hash.h"
#include "index/binary_index.h"

namespace intarsia::index {
namespace {

constexpr uint32_t kMagic = 0x58444942;  // "BIDX"
constexpr uint32_t kVersion = 1;
constexpr int64_t kChecksumBytes = 16;

// Names a vector's content, so that codes are never used for a vector that has changed.
uint32_t FingerprintOf(std::span<const float> row) {
  const std::string_view bytes(reinterpret_cast<const char*>(row.data()), row.size_bytes());
  return static_cast<uint32_t>(ChecksumOf(bytes).low);
}

Status Damaged(const std::string& what) {
  return Status(StatusCode::kCorruption, "binary index cannot be used, rebuild it: " + what);
}

std::string_view ViewOf(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

struct Header {
  int64_t dim = 0;
  int32_t bits = 0;
  uint64_t seed = 0;
  int64_t num_fitted = 0;
  int64_t num_rows = 0;
};

// Reads the header and checks that it is about `rows`.
Result<Header> ReadHeader(ByteReader* reader, const FlatIndex& rows) {
  Header header;
  if (reader->Read<uint32_t>() != kMagic) return Damaged("it does not begin as one");
  const auto version = reader->Read<uint32_t>();
  if (version != kVersion) {
    return Damaged("version is not known: version=" + std::to_string(version));
  }
  header.dim = reader->Read<int64_t>();
  header.bits = reader->Read<int32_t>();
  header.seed = reader->Read<uint64_t>();
  header.num_fitted = reader->Read<int64_t>();
  header.num_rows = reader->Read<int64_t>();
  INTARSIA_RETURN_IF_ERROR(reader->status());
  if (header.bits < 1 || header.bits > 2 || header.num_fitted < 0) {
    return Damaged("header out of range: bits=" + std::to_string(header.bits) +
                   " num_fitted=" + std::to_string(header.num_fitted));
  }
  if (header.dim != rows.dim() || header.num_rows != rows.size()) {
    return Damaged("it is about other vectors: dim=" + std::to_string(header.dim) + "/" +
                   std::to_string(rows.dim()) + " size=" + std::to_string(header.num_rows) + "/" +
                   std::to_string(rows.size()));
  }
  return header;
}

}  // namespace

Result<std::string> BinaryIndex::Save(const FlatIndex& rows) const {
  if (rows.dim() != dim_ || rows.size() != size()) {
    return Status(StatusCode::kInvalidArgument,
                  "binary index is not in step with its vectors: size=" + std::to_string(size()) +
                      "/" + std::to_string(rows.size()));
  }
  ByteWriter writer;
  writer.Write(kMagic);
  writer.Write(kVersion);
  writer.Write(dim_);
  writer.Write(bits_);
  writer.Write(seed_);
  writer.Write(num_fitted_);
  writer.Write(num_rows_);
  writer.WriteBytes(ViewOf(center_));
  const int64_t num_words = num_bits_ / 64;
  for (int64_t slot = 0; slot < num_rows_; ++slot) {
    const auto at = static_cast<size_t>(slot);
    writer.Write(rows.ids()[at]);
    writer.Write(FingerprintOf(rows.row(slot)));
    writer.Write(scales_[at]);
    writer.Write(offsets_[at]);
    writer.Write(errors_[at]);
    for (int32_t plane = 0; plane < bits_; ++plane) {
      for (int64_t w = 0; w < num_words; ++w) writer.Write(planes_[plane].data()[WordAt(slot, w)]);
    }
  }
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

Status BinaryIndex::ReadRow(ByteReader* reader, const FlatIndex& rows, std::vector<bool>* is_read) {
  const auto id = reader->Read<uint64_t>();
  const auto fingerprint = reader->Read<uint32_t>();
  const auto scale = reader->Read<float>();
  const auto offset = reader->Read<float>();
  const auto error = reader->Read<float>();
  INTARSIA_RETURN_IF_ERROR(reader->status());
  const auto slot = rows.SlotOf(id);
  if (!slot.has_value() || (*is_read)[static_cast<size_t>(*slot)]) {
    return Damaged("a code has no vector: id=" + std::to_string(id));
  }
  if (FingerprintOf(rows.row(*slot)) != fingerprint) {
    return Damaged("a vector has changed: id=" + std::to_string(id));
  }
  if (!std::isfinite(scale) || !std::isfinite(offset) || !std::isfinite(error) || error < 0.0F) {
    return Damaged("a factor is out of range: id=" + std::to_string(id));
  }
  const auto at = static_cast<size_t>(*slot);
  (*is_read)[at] = true;
  scales_[at] = scale;
  offsets_[at] = offset;
  errors_[at] = error;
  for (int32_t plane = 0; plane < bits_; ++plane) {
    for (int64_t w = 0; w < num_bits_ / 64; ++w) {
      planes_[plane].data()[WordAt(*slot, w)] = reader->Read<uint64_t>();
    }
  }
  return reader->status();
}

Result<std::unique_ptr<BinaryIndex>> BinaryIndex::Load(std::string_view bytes,
                                                       const FlatIndex& rows) {
  if (static_cast<int64_t>(bytes.size()) < kChecksumBytes) return Damaged("it ends too early");
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteReader tail(bytes.substr(body.size()), "binary index");
  Checksum want;
  want.low = tail.Read<uint64_t>();
  want.high = tail.Read<uint64_t>();
  if (const Checksum got = ChecksumOf(body); got != want) {
    return Damaged("checksum mismatch: want=" + want.ToHex() + " got=" + got.ToHex());
  }
  ByteReader reader(body, "binary index");
  INTARSIA_ASSIGN_OR_RETURN(const Header header, ReadHeader(&reader, rows));
  auto index = std::unique_ptr<BinaryIndex>(new BinaryIndex());
  index->SetGeometry(header.dim, header.bits, header.seed);
  index->num_fitted_ = header.num_fitted;
  std::vector<float> center(static_cast<size_t>(header.dim));
  for (float& value : center) {
    value = reader.Read<float>();
    if (!std::isfinite(value)) return Damaged("its centre is not finite");
  }
  index->SetCenter(center);
  index->Resize(header.num_rows);
  std::vector<bool> is_read(static_cast<size_t>(header.num_rows), false);
  for (int64_t i = 0; i < header.num_rows; ++i) {
    INTARSIA_RETURN_IF_ERROR(index->ReadRow(&reader, rows, &is_read));
  }
  if (reader.remaining() != 0) return Damaged("bytes follow its last code");
  return index;
}

}  // namespace intarsia::index
