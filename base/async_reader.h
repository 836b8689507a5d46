// AsyncReader: reads past the page cache that go on while their caller does something else.
//
// The bytes come straight from the disk into the caller's memory, so they cost the processors
// nothing, and several reads are in flight at once, so they do not wait for each other. It is the
// kernel's io_uring, through liburing; where a program was built without it, or a kernel is older
// than 5.6 or forbids it, there is no AsyncReader, and files are read by RandomAccessFile.
//
// Thread safety: owned by one thread.
// Lifetime: the files and the memory read into outlive the reads; the destructor waits for them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"

namespace intarsia {

class AsyncReader {
 public:
  // Offsets, sizes and memory of reads are multiples of this.
  static constexpr int64_t kAlignment = 4096;

  // With room for `num_reads_max` reads in flight, at most 4,096; null if the system has no such
  // thing.
  static std::unique_ptr<AsyncReader> Create(int num_reads_max);
  ~AsyncReader();
  AsyncReader(const AsyncReader&) = delete;
  AsyncReader& operator=(const AsyncReader&) = delete;

  struct Read {
    const DirectFile* file = nullptr;
    int64_t offset = 0;
    int64_t num_bytes = 0;  // at most 1 GiB; the file may end before
    uint8_t* target = nullptr;
    int64_t tag = 0;  // the caller's
  };
  // Begins a read. REQUIRES: !is_full() and the alignment.
  void Start(const Read& read);

  struct Done {
    int64_t tag = 0;
    int64_t num_bytes = 0;  // that were read; 0 after an error
  };
  // Waits until a read is done and returns all that are; empty if none is in flight.
  std::vector<Done> Wait();

  bool is_full() const { return num_in_flight_ == num_reads_max_; }
  int num_in_flight() const { return num_in_flight_; }

 private:
  struct Ring;
  AsyncReader(std::unique_ptr<Ring> ring, int num_reads_max);

  const std::unique_ptr<Ring> ring_;
  const int num_reads_max_;
  int num_in_flight_ = 0;
};

}  // namespace intarsia
