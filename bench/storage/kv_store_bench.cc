// kv_store_bench: what the KV store costs over the file below it, and over RocksDB's blob files.
//
// Caches of a small model in bf16, 30 layers of 384 KiB by default, are read layer by layer through
// KvStore, as an answer does, and beside it the same bytes of the same file are read without the
// store. The cases follow one another within each round, so that a ratio compares neighbours; the
// best and the median of the rounds count, because other programs can only add to a time.
//   warm: the file lies in the page cache. The plain read is pread and XXH3-128, as the store does.
//   cold: the pages are dropped before each case. The direct read goes past the page cache, 1 MiB
//         at a time.
// A program and not a Google Benchmark, because its figures are ratios between cases.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "base/aligned_array.h"
#include "base/stopwatch.h"
#include "bench/end_to_end/require.h"
#include "bench/storage/blob_files.h"
#include "bench/storage/page_cache.h"
#include "storage/database.h"

namespace intarsia::bench {
namespace {

using storage::KvHandle;
using storage::KvStore;

constexpr int64_t kDirectBytes = int64_t{1} << 20;

struct Arguments {
  int64_t num_caches = 16;
  int64_t num_layers = 30;
  int64_t layer_bytes = 393'216;
  int num_rounds = 9;
  std::string directory;
};

Digest IdentityOf(int64_t number) { return DigestOf("cache " + std::to_string(number)); }

std::string KeyOf(int64_t cache, int64_t layer) {
  return std::to_string(cache) + "/" + std::to_string(layer);
}

class File {
 public:
  File(const std::string& path, int flags) : descriptor_(::open(path.c_str(), flags)) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  void Read(int64_t offset, int64_t num_bytes, uint8_t* target) const {
    if (::pread(descriptor_, target, static_cast<size_t>(num_bytes), offset) != num_bytes) {
      Require(Status(StatusCode::kIo, "a plain read failed"));
    }
  }

 private:
  const int descriptor_;
};

// One way to move all bytes, and how long it took in each round.
struct Case {
  std::string name;
  std::function<void()> before;  // not timed
  std::function<void()> body;
  std::vector<double> seconds = {};

  double best() const { return *std::ranges::min_element(seconds); }
  double median() const {
    std::vector<double> sorted = seconds;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

class KvStoreBench {
 public:
  explicit KvStoreBench(const Arguments& arguments)
      : arguments_(arguments),
        num_bytes_(arguments.num_caches * arguments.num_layers * arguments.layer_bytes),
        scratch_(Require(ScratchDirectory::Create(arguments.directory))),
        payloads_(arguments.num_layers * arguments.layer_bytes),
        target_(std::max(arguments.layer_bytes, kDirectBytes) + 2 * kPage),
        page_(target_.data() +
              (kPage - reinterpret_cast<uintptr_t>(target_.data()) % kPage) % kPage) {
    uint64_t state = 1;
    for (int64_t i = 0; i < payloads_.size(); ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      payloads_[i] = static_cast<uint8_t>(state >> 56);
    }
    // One segment, so that the plain reads see all of it in one file.
    storage::DatabaseOptions options;
    options.kv_bytes_max = int64_t{1} << 40;
    options.kv_segment_bytes_max = int64_t{1} << 39;
    database_ = Require(storage::Database::Open(scratch_.path() + "/kb", options));
    blobs_ = Require(BlobFiles::Create(scratch_.path() + "/blobs"));
  }

  void Run() {
    std::printf("%lld caches of %lld layers of %lld bytes, one thread, %d rounds\n",
                static_cast<long long>(arguments_.num_caches),
                static_cast<long long>(arguments_.num_layers),
                static_cast<long long>(arguments_.layer_bytes), arguments_.num_rounds);
    Write();
    Find();
    ReadWarm();
    ReadCold();
  }

 private:
  static constexpr int64_t kPage = 4096;

  KvStore* store() { return database_->kv(); }
  std::string segment() const { return scratch_.path() + "/kb/kv/segment-000001.kv"; }
  // Where the store has put a layer; extents lie behind each other on multiples of a page.
  int64_t OffsetOf(int64_t cache, int64_t layer) const {
    const int64_t extent = (arguments_.layer_bytes + kPage - 1) / kPage * kPage;
    return kPage + (cache * arguments_.num_layers + layer) * extent;
  }
  std::vector<std::string_view> LayersOf(int64_t cache) const {
    std::vector<std::string_view> layers;
    for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) {
      // Caches differ by the order of their layers, which keeps the payloads few.
      const int64_t from = (layer + cache) % arguments_.num_layers;
      layers.emplace_back(
          reinterpret_cast<const char*>(payloads_.data() + from * arguments_.layer_bytes),
          static_cast<size_t>(arguments_.layer_bytes));
    }
    return layers;
  }
  template <typename Visit>
  void ForEachLayer(const Visit& visit) {
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) visit(cache, layer);
    }
  }

  void Write() {
    const Stopwatch segments;
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      const std::vector<std::string_view> layers = LayersOf(cache);
      const auto outcome =
          Require(store()->Put({.identity = IdentityOf(cache),
                                .shape = {.num_layers = arguments_.num_layers, .num_tokens = 256},
                                .layers = layers,
                                .owner = {},
                                .generation = store()->generation()}));
      if (outcome != storage::KvPutOutcome::kStored) {
        Require(Status(StatusCode::kIo, "the store did not take a cache"));
      }
    }
    Require(DropFromPageCache({segment()}));
    const double store_seconds = segments.seconds();
    const Stopwatch blob_files;
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      const std::vector<std::string_view> layers = LayersOf(cache);
      for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) {
        Require(blobs_->Put(KeyOf(cache, layer), layers[static_cast<size_t>(layer)]));
      }
    }
    Require(blobs_->Flush());
    Require(DropFromPageCache(FilesBelow(scratch_.path() + "/blobs")));
    std::printf("\nwritten once, with fdatasync: store %.2f GB/s, blob files %.2f GB/s\n",
                GigabytesPerSecond(store_seconds), GigabytesPerSecond(blob_files.seconds()));
  }

  void Find() {
    constexpr int kFinds = 100'000;
    const Stopwatch stopwatch;
    for (int i = 0; i < kFinds; ++i) {
      Require(store()->Find(IdentityOf(i % arguments_.num_caches)));
    }
    std::printf("find: %.0f ns with the digest of its name\n", stopwatch.seconds() / kFinds * 1e9);
  }

  void ReadThroughStore() {
    for (int64_t cache = 0; cache < arguments_.num_caches; ++cache) {
      const KvHandle handle = Require(store()->Find(IdentityOf(cache)));
      for (int64_t layer = 0; layer < arguments_.num_layers; ++layer) {
        Require(store()->ReadLayer(handle, layer,
                                   {page_, static_cast<size_t>(arguments_.layer_bytes)}));
      }
    }
  }

  void ReadPlain(const File& file) {
    ForEachLayer([&](int64_t cache, int64_t layer) {
      file.Read(OffsetOf(cache, layer), arguments_.layer_bytes, page_);
      const Checksum checksum = ChecksumOf(
          {reinterpret_cast<const char*>(page_), static_cast<size_t>(arguments_.layer_bytes)});
      sink_ = sink_ ^ checksum.low;
    });
  }

  void ReadBlobs() {
    ForEachLayer([&](int64_t cache, int64_t layer) {
      if (Require(blobs_->Read(KeyOf(cache, layer))) != arguments_.layer_bytes) {
        Require(Status(StatusCode::kCorruption, "a blob has another size"));
      }
    });
  }

  void ReadWarm() {
    const File file(segment(), O_RDONLY);
    std::vector<Case> cases = {
        {"KvStore", {}, [&] { ReadThroughStore(); }},
        {"plain read and XXH3-128", {}, [&] { ReadPlain(file); }},
        {"RocksDB blob files", {}, [&] { ReadBlobs(); }},
    };
    for (const Case& warming : cases) warming.body();
    RunRounds(&cases);
    Report("warm", cases);
  }

  void ReadCold() {
    const std::vector<std::string> blobs = FilesBelow(scratch_.path() + "/blobs");
    const auto drop = [this] { Require(DropFromPageCache({segment()})); };
    std::vector<Case> cases = {
        {"KvStore", drop, [&] { ReadThroughStore(); }},
        {"plain read and XXH3-128", drop, [&] { ReadPlain(File(segment(), O_RDONLY)); }},
        {"RocksDB blob files", [&] { Require(DropFromPageCache(blobs)); }, [&] { ReadBlobs(); }},
    };
    if (File(segment(), O_RDONLY | O_DIRECT).is_open()) {
      cases.insert(cases.begin() + 1, {"direct sequential read", drop, [&] { ReadDirect(); }});
    } else {
      std::printf("\nno direct reads on this file system\n");
    }
    RunRounds(&cases);
    drop();
    std::printf("\ndropping leaves %.0f %% of the pages",
                100.0 * Require(ShareInPageCache({segment()})));
    Report("cold", cases);
  }

  void ReadDirect() {
    const File file(segment(), O_RDONLY | O_DIRECT);
    const int64_t end = OffsetOf(arguments_.num_caches, 0);
    for (int64_t offset = kPage; offset < end; offset += kDirectBytes) {
      file.Read(offset, std::min(kDirectBytes, end - offset), page_);
    }
  }

  void RunRounds(std::vector<Case>* cases) {
    for (int round = 0; round < arguments_.num_rounds; ++round) {
      for (Case& next : *cases) {
        if (next.before) next.before();
        const Stopwatch stopwatch;
        next.body();
        next.seconds.push_back(stopwatch.seconds());
      }
    }
  }

  // The first case is the store; the second is what it is compared with.
  void Report(const char* tier, const std::vector<Case>& cases) const {
    std::printf("\n| %s | best GB/s | median GB/s | store / this: best | median |\n", tier);
    std::printf("|---|---|---|---|---|\n");
    for (const Case& row : cases) {
      std::printf("| %s | %.2f | %.2f | %.0f %% | %.0f %% |\n", row.name.c_str(),
                  GigabytesPerSecond(row.best()), GigabytesPerSecond(row.median()),
                  100.0 * row.best() / cases[0].best(), 100.0 * row.median() / cases[0].median());
    }
  }

  double GigabytesPerSecond(double seconds) const {
    return static_cast<double>(num_bytes_) / seconds / 1e9;
  }

  const Arguments arguments_;
  const int64_t num_bytes_;
  const ScratchDirectory scratch_;
  AlignedArray<uint8_t> payloads_;  // [num_layers, layer_bytes]
  AlignedArray<uint8_t> target_;
  uint8_t* const page_;  // in target_, where a page begins
  std::unique_ptr<storage::Database> database_;
  std::unique_ptr<BlobFiles> blobs_;
  volatile uint64_t sink_ = 0;
};

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What the KV store costs over the file below it");
  app.add_option("--caches", arguments.num_caches)->check(CLI::Range(1, 100'000));
  app.add_option("--layers", arguments.num_layers)->check(CLI::Range(1, 1'000));
  app.add_option("--layer-bytes", arguments.layer_bytes)->check(CLI::Range(1, 1 << 30));
  app.add_option("--rounds", arguments.num_rounds)->check(CLI::Range(1, 1'000));
  app.add_option("--directory", arguments.directory, "where the files go for the run");
  CLI11_PARSE(app, argc, argv);
  try {
    KvStoreBench(arguments).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kv_store_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) { return intarsia::bench::Main(argc, argv); }
