#include "storage/backup_copy.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

namespace intarsia::storage {
namespace {

Status DamagedFile(const std::string& path, const std::string& what) {
  return Status(StatusCode::kCorruption,
                "the backup is damaged (" + what + "); use another one: " + path);
}

}  // namespace

void BackupCopier::Skip(int64_t num_bytes) {
  num_bytes_done_ += num_bytes;
  if (options_.on_progress) {
    options_.on_progress(std::min(num_bytes_done_, num_bytes_total_), num_bytes_total_);
  }
}

template <typename Take>
Status BackupCopier::ForEachPiece(const RandomAccessFile& source, int64_t num_bytes,
                                  const Take& take) {
  std::string buffer;
  for (int64_t offset = 0; offset < num_bytes; offset += kBackupPieceBytes) {
    if (options_.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(options_.cancel->Check());
    const int64_t size = std::min(kBackupPieceBytes, num_bytes - offset);
    buffer.resize(static_cast<size_t>(size));
    INTARSIA_RETURN_IF_ERROR(source.ReadAt(offset, size, buffer.data()));
    INTARSIA_RETURN_IF_ERROR(take(std::string_view(buffer)));
    Skip(size);
  }
  return Status::Ok();
}

Result<BackupFile> BackupCopier::Copy(const RandomAccessFile& source, int64_t num_bytes,
                                      const std::string& name, const std::string& target) {
  BackupFile file = {.name = name, .num_bytes = num_bytes, .pieces = {}};
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<AppendFile> copy,
                            options_.file_system->OpenForAppending(target));
  INTARSIA_RETURN_IF_ERROR(ForEachPiece(source, num_bytes, [&](std::string_view piece) {
    file.pieces.push_back(ChecksumOf(piece));
    return copy->Append(piece);
  }));
  INTARSIA_RETURN_IF_ERROR(copy->Sync());
  return file;
}

Status BackupCopier::ForEachChecked(const std::string& path, const BackupFile& wanted,
                                    AppendFile* target) {
  Result<std::unique_ptr<RandomAccessFile>> source = options_.file_system->OpenForReading(path);
  if (!source.ok() && source.status().code() == StatusCode::kNotFound) {
    return DamagedFile(path, "a file is missing");
  }
  INTARSIA_RETURN_IF_ERROR(source.status());
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_bytes, (*source)->Size());
  if (num_bytes != wanted.num_bytes) {
    return DamagedFile(path, "size " + std::to_string(num_bytes) + " instead of " +
                                 std::to_string(wanted.num_bytes));
  }
  auto next = wanted.pieces.begin();
  return ForEachPiece(**source, num_bytes, [&](std::string_view piece) {
    if (ChecksumOf(piece) != *next++) return DamagedFile(path, "checksum mismatch");
    return target == nullptr ? Status::Ok() : target->Append(piece);
  });
}

Status BackupCopier::CopyChecked(const std::string& path, const BackupFile& wanted,
                                 const std::string& target) {
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<AppendFile> copy,
                            options_.file_system->OpenForAppending(target));
  INTARSIA_RETURN_IF_ERROR(ForEachChecked(path, wanted, copy.get()));
  return copy->Sync();
}

Status BackupCopier::Verify(const std::string& path, const BackupFile& wanted) {
  return ForEachChecked(path, wanted, nullptr);
}

Result<bool> BackupCopier::IsSame(const RandomAccessFile& source, int64_t num_bytes,
                                  const BackupFile& wanted) {
  if (num_bytes != wanted.num_bytes) return false;
  bool is_same = true;
  auto next = wanted.pieces.begin();
  const int64_t done_before = num_bytes_done_;
  const Status status = ForEachPiece(source, num_bytes, [&](std::string_view piece) {
    is_same = ChecksumOf(piece) == *next++;
    // Any error ends the walk.
    return is_same ? Status::Ok() : Status(StatusCode::kNotFound, "differs");
  });
  if (is_same) INTARSIA_RETURN_IF_ERROR(status);
  num_bytes_done_ = done_before;
  return is_same;
}

}  // namespace intarsia::storage
