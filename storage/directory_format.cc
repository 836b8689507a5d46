#include "storage/directory_format.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"

namespace intarsia::storage {
namespace {

constexpr std::string_view kMagic = "INTARSIA";

bool HasEntry(const std::vector<DirectoryEntry>& entries, std::string_view name) {
  return std::any_of(entries.begin(), entries.end(),
                     [&](const DirectoryEntry& entry) { return entry.name == name; });
}

Status Damaged(const std::string& path) {
  return Status(StatusCode::kCorruption, "checksum mismatch; restore a backup: " + path);
}

// Whether only the version differs from what this program writes: a flipped bit, since a newer
// program's bytes do not have the checksum of this version.
bool IsDamagedVersion(std::string_view bytes) {
  DirectoryFormat format;
  const size_t at = kMagic.size() + sizeof(format.version);
  if (bytes.size() < at + format.uuid.size()) return false;
  std::memcpy(format.uuid.data(), bytes.data() + at, format.uuid.size());
  return EncodeDirectoryFormat(format).substr(at) == bytes.substr(at);
}

}  // namespace

DirectoryFormat NewDirectoryFormat() {
  DirectoryFormat format;
  std::random_device random;
  for (size_t i = 0; i < format.uuid.size(); i += sizeof(uint32_t)) {
    const uint32_t word = random();
    std::memcpy(format.uuid.data() + i, &word, sizeof(word));
  }
  return format;
}

std::string EncodeDirectoryFormat(const DirectoryFormat& format) {
  ByteWriter writer;
  writer.WriteBytes(kMagic);
  writer.Write(format.version);
  writer.WriteBytes(format.uuid_view());
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

Result<DirectoryFormat> DecodeDirectoryFormat(const std::string& path, std::string_view bytes) {
  ByteReader reader(bytes, path);
  const std::string_view magic = reader.ReadBytes(static_cast<int64_t>(kMagic.size()));
  if (magic != kMagic) {
    return Status(StatusCode::kCorruption,
                  "not the FORMAT file of a database; restore a backup: " + path);
  }
  DirectoryFormat format;
  format.version = reader.Read<uint32_t>();
  // Looked at before the checksum, because a newer version may check differently.
  if (!reader.failed() && format.version > kFormatVersion && !IsDamagedVersion(bytes)) {
    return Status(StatusCode::kUnsupported,
                  "the database was written by a newer program; use that one: " + path +
                      " version=" + std::to_string(format.version) +
                      " known=" + std::to_string(kFormatVersion));
  }
  const std::string_view uuid = reader.ReadBytes(static_cast<int64_t>(format.uuid.size()));
  const std::string_view checked = bytes.substr(0, static_cast<size_t>(reader.offset()));
  const auto low = reader.Read<uint64_t>();
  const auto high = reader.Read<uint64_t>();
  if (reader.failed()) return Damaged(path);
  const Checksum want{.low = low, .high = high};
  if (ChecksumOf(checked) != want || reader.remaining() != 0 || format.version == 0) {
    return Damaged(path);
  }
  std::memcpy(format.uuid.data(), uuid.data(), uuid.size());
  return format;
}

Result<DirectoryState> InspectDirectory(FileSystem* file_system, const std::string& path) {
  if (!file_system->Exists(path)) return DirectoryState::kAbsent;
  Result<std::vector<DirectoryEntry>> entries = file_system->List(path);
  if (!entries.ok()) return std::move(entries).status();
  if (entries->empty()) return DirectoryState::kAbsent;
  if (HasEntry(*entries, "FORMAT")) return DirectoryState::kComplete;
  // What a creation leaves that did not come to its end: nothing but names of ours, LOCK first.
  static constexpr std::string_view kNames[] = {"LOCK", "COMMITS", "FORMAT.new", "rocksdb", "kv"};
  for (const DirectoryEntry& entry : *entries) {
    if (std::find(std::begin(kNames), std::end(kNames), entry.name) == std::end(kNames) ||
        !HasEntry(*entries, "LOCK")) {
      return Status(StatusCode::kInvalidArgument,
                    "the directory is not empty and not a database; choose another: " + path +
                        " holds=" + entry.name);
    }
  }
  return DirectoryState::kIncomplete;
}

}  // namespace intarsia::storage
