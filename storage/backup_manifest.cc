#include "storage/backup_manifest.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace intarsia::storage {
namespace {

constexpr std::string_view kMagic = "INTABKUP";
constexpr int64_t kManifestBytesMax = int64_t{256} << 20;
constexpr int64_t kCreatedMax = 253'402'300'799;  // the end of the year 9999
constexpr int64_t kFileBytesMax = int64_t{1} << 44;

int64_t NumPieces(int64_t num_bytes) {
  return (num_bytes + kBackupPieceBytes - 1) / kBackupPieceBytes;
}

Status Damaged(const std::string& path, const std::string& what) {
  return Status(StatusCode::kCorruption,
                "the list of a backup is damaged (" + what + "); take the backup again: " + path);
}

constexpr size_t kChecksumBytes = 16;

// Whether the checksum at the end is that of what stands before it.
bool IsWhole(std::string_view bytes) {
  if (bytes.size() < kChecksumBytes) return false;
  const std::string_view checked = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteReader tail(bytes.substr(checked.size()));
  const auto low = tail.Read<uint64_t>();
  const auto high = tail.Read<uint64_t>();
  return ChecksumOf(checked) == Checksum{.low = low, .high = high};
}

// Whether only the version differs from what this program writes: a flipped bit, since a newer
// program's bytes do not have the checksum of this version.
bool IsDamagedVersion(std::string_view bytes) {
  ByteWriter writer;
  writer.WriteBytes(kMagic);
  writer.Write(kBackupVersion);
  const size_t at = writer.bytes().size();
  if (bytes.size() < at) return false;
  writer.WriteBytes(bytes.substr(at));
  return IsWhole(writer.bytes());
}

Result<BackupFile> ReadFile(ByteReader* reader, const std::string& path) {
  BackupFile file;
  file.name = reader->ReadString();
  file.num_bytes = reader->Read<int64_t>();
  INTARSIA_RETURN_IF_ERROR(reader->status());
  if (!IsBackupName(file.name)) return Damaged(path, "a file's name");
  if (file.num_bytes < 0 || file.num_bytes > kFileBytesMax) return Damaged(path, "a file's size");
  const int64_t num_pieces = NumPieces(file.num_bytes);
  if (num_pieces > reader->remaining() / 16) return Damaged(path, "too short");
  for (int64_t i = 0; i < num_pieces; ++i) {
    const auto low = reader->Read<uint64_t>();
    const auto high = reader->Read<uint64_t>();
    file.pieces.push_back({.low = low, .high = high});
  }
  return file;
}

}  // namespace

bool IsBackupName(std::string_view name) {
  for (const std::string_view folder : {std::string_view("rocksdb/"), std::string_view("kv/")}) {
    if (!name.starts_with(folder)) continue;
    const std::string_view rest = name.substr(folder.size());
    return !rest.empty() && rest[0] != '.' && rest.size() <= 255 &&
           std::ranges::all_of(rest, [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
           });
  }
  return false;
}

int64_t BackupManifest::num_bytes() const {
  int64_t sum = 0;
  for (const BackupFile& file : files) sum += file.num_bytes;
  return sum;
}

const BackupFile* BackupManifest::Find(std::string_view name) const {
  const auto found = std::ranges::find(files, name, &BackupFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::string EncodeBackupManifest(const BackupManifest& manifest) {
  ByteWriter writer;
  writer.WriteBytes(kMagic);
  writer.Write(kBackupVersion);
  writer.WriteString(EncodeDirectoryFormat(manifest.format));
  writer.Write(manifest.commit);
  writer.Write(manifest.created);
  writer.Write(static_cast<uint32_t>(manifest.files.size()));
  for (const BackupFile& file : manifest.files) {
    writer.WriteString(file.name);
    writer.Write(file.num_bytes);
    for (const Checksum& piece : file.pieces) {
      writer.Write(piece.low);
      writer.Write(piece.high);
    }
  }
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

Result<BackupManifest> DecodeBackupManifest(const std::string& path, std::string_view bytes) {
  ByteReader reader(bytes, path);
  if (reader.ReadBytes(static_cast<int64_t>(kMagic.size())) != kMagic) {
    return Damaged(path, "no such file of ours");
  }
  const auto version = reader.Read<uint32_t>();
  // Looked at before the checksum, because a newer version may check differently.
  if (!reader.failed() && version > kBackupVersion && !IsDamagedVersion(bytes)) {
    return Status(StatusCode::kUnsupported,
                  "the backup was written by a newer program; use that one: " + path + " version=" +
                      std::to_string(version) + " known=" + std::to_string(kBackupVersion));
  }
  if (!IsWhole(bytes) || version == 0) return Damaged(path, "checksum mismatch");
  BackupManifest manifest;
  INTARSIA_ASSIGN_OR_RETURN(manifest.format, DecodeDirectoryFormat(path, reader.ReadString()));
  manifest.commit = reader.Read<uint64_t>();
  manifest.created = reader.Read<int64_t>();
  const auto num_files = reader.Read<uint32_t>();
  INTARSIA_RETURN_IF_ERROR(reader.status());
  if (manifest.created < 0 || manifest.created > kCreatedMax) return Damaged(path, "its time");
  for (uint32_t i = 0; i < num_files; ++i) {
    INTARSIA_ASSIGN_OR_RETURN(BackupFile file, ReadFile(&reader, path));
    if (i > 0 && file.name <= manifest.files.back().name) {
      return Damaged(path, "files out of order");
    }
    manifest.files.push_back(std::move(file));
  }
  if (reader.remaining() != static_cast<int64_t>(kChecksumBytes)) {
    return Damaged(path, "something behind its end");
  }
  return manifest;
}

Result<BackupManifest> ReadBackupManifest(FileSystem* file_system, const std::string& directory) {
  const std::string path = directory + "/BACKUP";
  if (!file_system->Exists(path)) {
    if (file_system->Exists(directory + "/BACKUP.unfinished")) {
      return Status(StatusCode::kNotFound,
                    "the backup was interrupted and is not whole; take it again: " + directory);
    }
    if (file_system->Exists(directory + "/FORMAT")) {
      return Status(StatusCode::kNotFound,
                    "this is a database and not a backup; open it instead: " + directory);
    }
    return Status(StatusCode::kNotFound, "no backup here: " + directory);
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::string bytes, file_system->ReadAll(path, kManifestBytesMax));
  return DecodeBackupManifest(path, bytes);
}

}  // namespace intarsia::storage
