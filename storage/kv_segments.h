// KvSegments: the files that hold the layers of KV caches, append-only, each extent aligned.
//
// A segment is its header and then extents, about which it says nothing itself: the entries in
// RocksDB name them. Bytes that no entry names are dead. A file is removed as a whole, and a reader
// that has it open goes on reading.
//
// Thread safety: Append, Resume, CloseActive and Sync are called by one thread at a time; all else
// is thread-safe.
// Lifetime: the FileSystem outlives it.
// Format: docs/formats/kv_segments.md
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "storage/kv_entry.h"

namespace intarsia::storage {

struct KvSegmentsOptions {
  FileSystem* file_system = nullptr;
  std::string directory;
  std::string uuid;  // 16 bytes; a segment of another database is not read.
  int64_t segment_bytes_max = 0;
};

// The first kKvAlignment bytes of a segment.
std::string EncodeSegmentHeader(std::string_view uuid, uint64_t number);

// "segment-000012.kv"
std::string SegmentName(uint64_t number);

class KvSegments {
 public:
  // Finds the segments in the directory. Errors: kIo.
  static Result<std::unique_ptr<KvSegments>> Open(const KvSegmentsOptions& options);
  explicit KvSegments(const KvSegmentsOptions& options)
      : options_(options), segment_bytes_max_(options.segment_bytes_max) {}

  // Of segments that are begun, or go on, from now on.
  void SetSegmentBytesMax(int64_t bytes_max) { segment_bytes_max_.store(bytes_max); }

  struct Placed {
    uint64_t segment = 0;
    std::vector<KvExtent> extents;  // [layers.size()]
  };
  // Writes the payloads behind each other. After an error the segment takes no more and what was
  // written of them is dead. Errors: kResourceExhausted if the disk is full, kIo.
  Result<Placed> Append(std::span<const std::string_view> layers);
  // Goes on appending to segment `number`, if it is whole and has room.
  // Errors: kCorruption if it is not whole, kIo, kResourceExhausted.
  Status Resume(uint64_t number);
  void CloseActive();
  // Makes what was appended to the active segment survive a power failure.
  Status Sync();

  // The segment for reading, kept open for the next call.
  // Errors: kNotFound if it is gone, kCorruption if its header is damaged, kIo.
  Result<std::shared_ptr<const RandomAccessFile>> Reader(uint64_t number);
  // The segment opened once more, for one sequence of reads; null if that fails, as when the file
  // was removed, which leaves a Reader readable. Whoever reads from it verifies what comes.
  std::unique_ptr<RandomAccessFile> OpenStream(uint64_t number) const;
  // As OpenStream, past the page cache.
  std::unique_ptr<DirectFile> OpenDirect(uint64_t number) const;
  // Removes the file; a reader that has it open may go on. Errors: kIo.
  Status Remove(uint64_t number);

  // The number of the segment that takes the next Append, or 0.
  uint64_t active() const;
  // The bytes of each file by segment number.
  std::map<uint64_t, int64_t> FileBytes() const;
  int64_t disk_bytes() const;
  // Numbers below `number` will not be given to new segments.
  void ReserveNumbersBelow(uint64_t number);
  uint64_t next_number() const;

 private:
  std::string PathOf(uint64_t number) const;
  Status StartSegment();
  Status AppendExtent(std::string_view payload, KvExtent* extent);
  Status CheckHeader(const RandomAccessFile& file, uint64_t number) const;
  // Puts the active segment aside after a failed write, with the size that its file now has.
  void Abandon();

  const KvSegmentsOptions options_;
  std::atomic<int64_t> segment_bytes_max_;
  std::unique_ptr<AppendFile> writer_;  // Of the active segment; used by one thread at a time.

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  uint64_t active_ = 0;
  uint64_t next_number_ = 1;
  std::map<uint64_t, int64_t> file_bytes_;
  std::map<uint64_t, std::shared_ptr<const RandomAccessFile>> readers_;
};

}  // namespace intarsia::storage
