#include "base/async_reader.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#ifdef INTARSIA_URING
#include <liburing.h>
#endif

#include "base/check.h"

namespace intarsia {
namespace {

constexpr int kReadsMax = 4'096;
constexpr int64_t kReadBytesMax = int64_t{1} << 30;

}  // namespace

#ifdef INTARSIA_URING

struct AsyncReader::Ring {
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (is_open) ::io_uring_queue_exit(&ring);
  }

  io_uring ring = {};
  bool is_open = false;
};

AsyncReader::AsyncReader(std::unique_ptr<Ring> ring, int num_reads_max)
    : ring_(std::move(ring)), num_reads_max_(num_reads_max) {}

AsyncReader::~AsyncReader() {
  while (num_in_flight_ > 0) Wait();
}

std::unique_ptr<AsyncReader> AsyncReader::Create(int num_reads_max) {
  INTARSIA_CHECK(num_reads_max > 0 && num_reads_max <= kReadsMax);
  auto ring = std::make_unique<Ring>();
  if (::io_uring_queue_init(static_cast<unsigned>(num_reads_max), &ring->ring, 0) != 0) {
    return nullptr;  // absent, forbidden, or out of what a process may lock
  }
  ring->is_open = true;
  return std::unique_ptr<AsyncReader>(new AsyncReader(std::move(ring), num_reads_max));
}

void AsyncReader::Start(const Read& read) {
  INTARSIA_CHECK(!is_full());
  INTARSIA_CHECK(read.offset >= 0 && read.offset % kAlignment == 0);
  INTARSIA_CHECK(read.num_bytes > 0 && read.num_bytes <= kReadBytesMax &&
                 read.num_bytes % kAlignment == 0);
  INTARSIA_CHECK(reinterpret_cast<uintptr_t>(read.target) % kAlignment == 0);
  io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_->ring);
  INTARSIA_CHECK(entry != nullptr);  // there are as many as reads in flight
  ::io_uring_prep_read(entry, read.file->descriptor(), read.target,
                       static_cast<unsigned>(read.num_bytes), static_cast<uint64_t>(read.offset));
  entry->user_data = static_cast<uint64_t>(read.tag);
  ++num_in_flight_;
  // What the kernel does not take now is handed over again by Wait.
  ::io_uring_submit(&ring_->ring);
}

std::vector<AsyncReader::Done> AsyncReader::Wait() {
  std::vector<Done> done;
  while (done.empty() && num_in_flight_ > 0) {
    const int result = ::io_uring_submit_and_wait(&ring_->ring, 1);
    // Busy or interrupted; anything else would be a ring that this class has broken.
    INTARSIA_CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY ||
                   result == -ENOMEM);
    io_uring_cqe* row = nullptr;
    while (::io_uring_peek_cqe(&ring_->ring, &row) == 0) {
      done.push_back({.tag = static_cast<int64_t>(row->user_data),
                      .num_bytes = std::max<int64_t>(0, row->res)});
      ::io_uring_cqe_seen(&ring_->ring, row);
      --num_in_flight_;
    }
  }
  return done;
}

#else  // Built without liburing.

struct AsyncReader::Ring {};

AsyncReader::AsyncReader(std::unique_ptr<Ring> ring, int num_reads_max)
    : ring_(std::move(ring)), num_reads_max_(num_reads_max) {}
AsyncReader::~AsyncReader() = default;

std::unique_ptr<AsyncReader> AsyncReader::Create(int num_reads_max) {
  INTARSIA_CHECK(num_reads_max > 0 && num_reads_max <= kReadsMax);
  return nullptr;
}

void AsyncReader::Start(const Read& read) {
  INTARSIA_CHECK(read.num_bytes <= kReadBytesMax && ring_ != nullptr);  // nobody has one
}

std::vector<AsyncReader::Done> AsyncReader::Wait() { return {}; }

#endif

}  // namespace intarsia
