// kv_read_ahead_bench: how the disk is kept busy while layers are computed.
//
// As LayerLoader does, the threads of a pool read and verify one layer of several caches at a time,
// and then compute for a while. The caches lie in a segment behind each other, each with its layers
// in their order; the page cache is dropped before each round. What is compared:
//   reads beside     KvStore::StartLayer, so many reads in flight: past the page cache, straight
//   into
//                    the memory that the layers are used from
//   ReadLayer        KvStore::ReadLayer, for which the system reads ahead: the segment is opened
//                    anew for each cache
//   one opening      the same reads through one descriptor, with a checksum
//   asked ahead      the same, and a thread that asks for all layers (POSIX_FADV_WILLNEED)
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "base/aligned_array.h"
#include "base/async_reader.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/end_to_end/require.h"
#include "bench/storage/page_cache.h"
#include "storage/database.h"

namespace intarsia::bench {
namespace {

using storage::KvHandle;

constexpr int64_t kPage = 4096;

struct Arguments {
  int64_t num_caches = 8;
  int64_t num_layers = 30;
  int64_t layer_bytes = 393'216;
  int num_rounds = 9;
  int num_threads = 0;
  double compute_ms = 2.0;
  std::string directory;
};

class File {
 public:
  File(const std::string& path, int flags) : descriptor_(::open(path.c_str(), flags)) {
    if (descriptor_ < 0) Require(Status(StatusCode::kIo, "cannot open " + path));
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

// Uses the processor for so long, however many others want it.
void Compute(double milliseconds) {
  const auto now_ms = [] {
    timespec time = {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
  };
  const double end = now_ms() + milliseconds;
  while (now_ms() < end) {
  }
}

// What is known of each layer's read below its bytes.
constexpr int64_t kPending = -1;
constexpr int64_t kLeft = -2;  // for ReadLayer

class ReadAheadBench {
 public:
  explicit ReadAheadBench(const Arguments& arguments)
      : arguments_(arguments),
        extent_((arguments.layer_bytes + kPage - 1) / kPage * kPage),
        num_extents_(arguments.num_layers * arguments.num_caches),
        pool_(arguments.num_threads),
        scratch_(Require(ScratchDirectory::Create(arguments.directory))),
        memory_(num_extents_ * extent_ + kPage),
        target_(memory_.data() +
                (kPage - reinterpret_cast<uintptr_t>(memory_.data()) % kPage) % kPage),
        reads_(static_cast<size_t>(num_extents_)) {
    storage::DatabaseOptions options;
    options.kv_bytes_max = int64_t{1} << 40;
    options.kv_segment_bytes_max = int64_t{1} << 39;
    database_ = Require(storage::Database::Open(scratch_.path() + "/kb", options));
    segment_ = scratch_.path() + "/kb/kv/segment-000001.kv";
    Fill();
  }

  void Run() {
    std::vector<Case> cases = Cases();
    for (int round = 0; round < arguments_.num_rounds; ++round) {
      for (Case& next : cases) {
        Require(DropFromPageCache({segment_}));
        for (std::atomic<int64_t>& read : reads_) read = kPending;
        const Stopwatch stopwatch;
        next.body();
        next.milliseconds.push_back(stopwatch.milliseconds());
      }
    }
    Report(&cases);
  }

 private:
  struct Case {
    std::string name;
    std::function<void()> body;
    std::vector<double> milliseconds = {};
  };
  // Reads a layer of a cache to TargetOf(layer, cache), or waits for it.
  using Load = std::function<void(int64_t layer, int64_t cache)>;

  int64_t OffsetOf(int64_t layer, int64_t cache) const {
    return kPage + (cache * arguments_.num_layers + layer) * extent_;
  }
  uint8_t* TargetOf(int64_t layer, int64_t cache) const {
    return target_ + IndexOf(layer, cache) * extent_;
  }
  // In the order in which layers are needed.
  int64_t IndexOf(int64_t layer, int64_t cache) const {
    return layer * arguments_.num_caches + cache;
  }
  static Digest IdentityOf(int64_t cache) { return DigestOf("cache " + std::to_string(cache)); }

  void Fill() {
    uint64_t state = 1;
    std::string payload(static_cast<size_t>(arguments_.layer_bytes), '\0');
    for (char& byte : payload) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      byte = static_cast<char>(state >> 56);
    }
    checksum_ = ChecksumOf(payload);
    const std::vector<std::string_view> layers(static_cast<size_t>(arguments_.num_layers), payload);
    storage::KvStore* const store = database_->kv();
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      Require(store->Put({.identity = IdentityOf(cache),
                          .shape = {.num_layers = arguments_.num_layers, .num_tokens = 256},
                          .layers = layers,
                          .owner = {},
                          .generation = store->generation()}));
    }
  }

  void ForEachLayer(const Load& load) {
    for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) {
      if (load) {
        pool_.ParallelFor(arguments_.num_caches, [&](int64_t cache, int) { load(layer, cache); });
      }
      pool_.ParallelFor(pool_.num_threads(), [&](int64_t, int) { Compute(arguments_.compute_ms); });
    }
  }

  void Verify(int64_t layer, int64_t cache) const {
    const Checksum got = ChecksumOf({reinterpret_cast<const char*>(TargetOf(layer, cache)),
                                     static_cast<size_t>(arguments_.layer_bytes)});
    if (got != checksum_) Require(Status(StatusCode::kCorruption, "another layer was read"));
  }

  void ReadAt(const File& file, int64_t layer, int64_t cache) const {
    if (::pread(file.descriptor(), TargetOf(layer, cache),
                static_cast<size_t>(arguments_.layer_bytes),
                OffsetOf(layer, cache)) != arguments_.layer_bytes) {
      Require(Status(StatusCode::kIo, "a plain read failed"));
    }
  }

  std::vector<Case> Cases() {
    std::vector<Case> cases;
    cases.push_back({"computing alone", [this] { ForEachLayer({}); }});
    for (const int depth : {4, 16, 64}) {
      if (AsyncReader::Create(depth) == nullptr) continue;
      cases.push_back({"reads beside, " + std::to_string(depth) + " in flight",
                       [this, depth] { ReadBeside(depth); }});
    }
    cases.push_back({"ReadLayer", [this] { ReadThroughStore(); }});
    cases.push_back({"one opening", [this] {
                       const File file(segment_, O_RDONLY);
                       ForEachLayer([&](int64_t layer, int64_t cache) {
                         ReadAt(file, layer, cache);
                         Verify(layer, cache);
                       });
                     }});
    cases.push_back({"asked ahead", [this] { ReadAskedAhead(); }});
    return cases;
  }

  std::vector<KvHandle> Handles() {
    std::vector<KvHandle> handles;
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      handles.push_back(Require(database_->kv()->Find(IdentityOf(cache))));
    }
    return handles;
  }

  void ReadThroughStore() {
    const std::vector<KvHandle> handles = Handles();
    ForEachLayer([&](int64_t layer, int64_t cache) {
      Require(database_->kv()->ReadLayer(
          handles[static_cast<size_t>(cache)], layer,
          {TargetOf(layer, cache), static_cast<size_t>(arguments_.layer_bytes)}));
    });
  }

  void ReadAskedAhead() {
    const File file(segment_, O_RDONLY);
    const std::jthread asking([&] {
      for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) {
        for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
          ::posix_fadvise(file.descriptor(), OffsetOf(layer, cache), arguments_.layer_bytes,
                          POSIX_FADV_WILLNEED);
        }
      }
    });
    ForEachLayer([&](int64_t layer, int64_t cache) {
      ReadAt(file, layer, cache);
      Verify(layer, cache);
    });
  }

  void ReadBeside(int depth) {
    const std::vector<KvHandle> handles = Handles();
    const std::unique_ptr<AsyncReader> reader = AsyncReader::Create(depth);
    const auto settle = [&] {
      for (const AsyncReader::Done& done : reader->Wait()) {
        reads_[static_cast<size_t>(done.tag)] = done.num_bytes;
        reads_[static_cast<size_t>(done.tag)].notify_all();
      }
    };
    const std::jthread reading([&] {
      for (int64_t index = 0; index < num_extents_; ++index) {
        while (reader->is_full()) settle();
        const int64_t layer = index / arguments_.num_caches;
        const int64_t cache = index % arguments_.num_caches;
        if (database_->kv()->StartLayer(handles[static_cast<size_t>(cache)], layer,
                                        {TargetOf(layer, cache), static_cast<size_t>(extent_)},
                                        reader.get(), index)) {
          continue;
        }
        reads_[static_cast<size_t>(index)] = kLeft;
        reads_[static_cast<size_t>(index)].notify_all();
      }
      while (reader->num_in_flight() > 0) settle();
    });
    ForEachLayer([&](int64_t layer, int64_t cache) {
      std::atomic<int64_t>& read = reads_[static_cast<size_t>(IndexOf(layer, cache))];
      read.wait(kPending);
      const std::span<uint8_t> target = {TargetOf(layer, cache),
                                         static_cast<size_t>(arguments_.layer_bytes)};
      const KvHandle& handle = handles[static_cast<size_t>(cache)];
      Require(read == kLeft ? database_->kv()->ReadLayer(handle, layer, target)
                            : database_->kv()->FinishLayer(handle, layer, target, read));
    });
  }

  void Report(std::vector<Case>* cases) const {
    std::printf(
        "%lld caches, %lld layers of %lld bytes, %.1f ms of computing a layer, %d threads, "
        "%d rounds, nothing in the page cache\n",
        static_cast<long long>(arguments_.num_caches),
        static_cast<long long>(arguments_.num_layers),
        static_cast<long long>(arguments_.layer_bytes), arguments_.compute_ms, pool_.num_threads(),
        arguments_.num_rounds);
    std::printf("| | median ms | best ms | beside computing: median | best |\n");
    std::printf("|---|---|---|---|---|\n");
    for (Case& row : *cases) {
      std::ranges::sort(row.milliseconds);
      const auto median = [](const Case& of) {
        return of.milliseconds[of.milliseconds.size() / 2];
      };
      std::printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", row.name.c_str(), median(row),
                  row.milliseconds.front(), median(row) - median(cases->front()),
                  row.milliseconds.front() - cases->front().milliseconds.front());
    }
  }

  const Arguments arguments_;
  const int64_t extent_;
  const int64_t num_extents_;
  ThreadPool pool_;
  const ScratchDirectory scratch_;
  AlignedArray<uint8_t> memory_;
  uint8_t* const target_;  // [num_layers, num_caches, extent_], in memory_ where a page begins
  std::vector<std::atomic<int64_t>> reads_;  // [num_layers, num_caches]
  std::unique_ptr<storage::Database> database_;
  std::string segment_;
  Checksum checksum_;
};

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("How the disk is kept busy while layers are computed");
  app.add_option("--caches", arguments.num_caches)->check(CLI::Range(1, 1'000));
  app.add_option("--layers", arguments.num_layers)->check(CLI::Range(1, 1'000));
  app.add_option("--layer-bytes", arguments.layer_bytes)->check(CLI::Range(1, 1 << 28));
  app.add_option("--compute", arguments.compute_ms, "milliseconds a layer, on every thread")
      ->check(CLI::Range(0.0, 1e3));
  app.add_option("--rounds", arguments.num_rounds)->check(CLI::Range(1, 1'000));
  app.add_option("--threads", arguments.num_threads, "0: all")->check(CLI::Range(0, 1'024));
  app.add_option("--directory", arguments.directory, "where the files go for the run");
  CLI11_PARSE(app, argc, argv);
  try {
    ReadAheadBench(arguments).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kv_read_ahead_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) { return intarsia::bench::Main(argc, argv); }
