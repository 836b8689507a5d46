#include "storage/rocks_tables.h"

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace intarsia::storage {
namespace {

// The footer: checksum type u8 | handle of the metaindex | handle of the index | padding | version
// u32 | magic u64. A handle is an offset and a size, both in groups of seven bits, lowest first.
constexpr int64_t kFooterBytes = 53;
constexpr uint64_t kMagic = 0x88e241b785f4cff7;
constexpr int64_t kMetaindexBytesMax = int64_t{1} << 20;
constexpr std::string_view kPropertiesName = "rocksdb.properties";
// In the last four bytes of a block, beside the number of its restarts.
constexpr uint32_t kHasHashIndex = uint32_t{1} << 31;

struct Handle {
  int64_t offset = 0;
  int64_t num_bytes = 0;
};

std::optional<int64_t> ReadGroups(ByteReader* reader) {
  uint64_t value = 0;
  for (int shift = 0; shift < 63; shift += 7) {
    const auto byte = reader->Read<uint8_t>();
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (reader->failed()) return std::nullopt;
    if (byte < 0x80) return static_cast<int64_t>(value);
  }
  return std::nullopt;
}

// The next handle, if it lies within a file of `file_bytes`.
std::optional<Handle> ReadHandle(ByteReader* reader, int64_t file_bytes) {
  const std::optional<int64_t> offset = ReadGroups(reader);
  const std::optional<int64_t> num_bytes = offset ? ReadGroups(reader) : std::nullopt;
  if (!num_bytes || *offset > file_bytes || *num_bytes > file_bytes - *offset) return std::nullopt;
  return Handle{.offset = *offset, .num_bytes = *num_bytes};
}

std::optional<std::string> ReadBytes(const RandomAccessFile& file, int64_t offset,
                                     int64_t num_bytes) {
  if (offset < 0) return std::nullopt;
  std::string bytes(static_cast<size_t>(num_bytes), '\0');
  if (!file.ReadAt(offset, num_bytes, bytes.data()).ok()) return std::nullopt;
  return bytes;
}

// The end of the properties of a table, or nothing if they cannot be found.
std::optional<uint32_t> EndOfProperties(const RandomAccessFile& file) {
  const Result<int64_t> file_bytes = file.Size();
  if (!file_bytes.ok()) return std::nullopt;
  const auto footer = ReadBytes(file, *file_bytes - kFooterBytes, kFooterBytes);
  if (!footer) return std::nullopt;
  ByteReader magic(std::string_view(*footer).substr(kFooterBytes - sizeof(kMagic)));
  if (magic.Read<uint64_t>() != kMagic) return std::nullopt;
  ByteReader reader(std::string_view(*footer).substr(1));
  const std::optional<Handle> metaindex = ReadHandle(&reader, *file_bytes);
  if (!metaindex || metaindex->num_bytes > kMetaindexBytesMax) return std::nullopt;
  const auto blocks = ReadBytes(file, metaindex->offset, metaindex->num_bytes);
  // A name is followed by its handle.
  const size_t at = blocks ? blocks->find(kPropertiesName) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  ByteReader entry(std::string_view(*blocks).substr(at + kPropertiesName.size()));
  const std::optional<Handle> properties = ReadHandle(&entry, *file_bytes);
  if (!properties || properties->num_bytes < int64_t{sizeof(uint32_t)}) return std::nullopt;
  const auto end =
      ReadBytes(file, properties->offset + properties->num_bytes - int64_t{sizeof(uint32_t)},
                sizeof(uint32_t));
  if (!end) return std::nullopt;
  return ByteReader(*end).Read<uint32_t>();
}

}  // namespace

Status CheckTableProperties(FileSystem* file_system, const std::string& path) {
  if (!file_system->Exists(path)) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, file_system->List(path));
  for (const DirectoryEntry& entry : entries) {
    if (entry.is_directory || !entry.name.ends_with(".sst")) continue;
    const std::string table = path + "/" + entry.name;
    const auto file = file_system->OpenForReading(table);
    if (!file.ok()) continue;
    const std::optional<uint32_t> end = EndOfProperties(**file);
    if (end && (*end & kHasHashIndex) != 0) {
      return Status(StatusCode::kCorruption, "a table's properties are damaged: " + table);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::storage
