#include "storage/commit_mark.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kMarkBytes = 24;

Status MarkError(const std::string& doing, const std::string& path) {
  const int error = errno;
  return Status(
      error == ENOSPC || error == EDQUOT ? StatusCode::kResourceExhausted : StatusCode::kIo,
      "cannot " + doing + " " + path + ": " +
          std::error_code(error, std::generic_category()).message());
}

}  // namespace

std::string EncodeCommitMark(std::string_view uuid, uint64_t sequence) {
  ByteWriter number;
  number.Write(sequence);
  const Checksum checksum = ChecksumOf(std::string(uuid) + number.bytes());
  ByteWriter writer;
  writer.WriteBytes(number.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

Result<uint64_t> CommitMark::Read(const std::string& path, std::string_view uuid) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) return uint64_t{0};
  if (descriptor < 0) return MarkError("open", path);
  char raw[kMarkBytes];
  const ssize_t size = ::pread(descriptor, raw, sizeof(raw), 0);
  ::close(descriptor);
  if (size != kMarkBytes) return uint64_t{0};
  const std::string_view bytes(raw, sizeof(raw));
  const auto sequence = ByteReader(bytes).Read<uint64_t>();
  return EncodeCommitMark(uuid, sequence) == bytes ? sequence : uint64_t{0};
}

Result<std::unique_ptr<CommitMark>> CommitMark::Open(const std::string& path,
                                                     std::string_view uuid) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return MarkError("open", path);
  return std::make_unique<CommitMark>(descriptor, path, std::string(uuid));
}

CommitMark::~CommitMark() { ::close(descriptor_); }

Status CommitMark::Write(uint64_t sequence) {
  const std::string bytes = EncodeCommitMark(uuid_, sequence);
  const ssize_t size = ::pwrite(descriptor_, bytes.data(), bytes.size(), 0);
  if (size != static_cast<ssize_t>(bytes.size())) return MarkError("write", path_);
  return Status::Ok();
}

}  // namespace intarsia::storage
