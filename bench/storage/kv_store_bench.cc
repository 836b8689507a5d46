// Reading and writing KV caches, beside a plain read of the same file and the checksum alone.
// One cache: 30 layers of 393,216 bytes, 256 tokens of a small model in bf16. The file is warm.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include "storage/database.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kNumLayers = 30;
constexpr int64_t kLayerBytes = 393'216;
constexpr int64_t kNumCaches = 8;

Digest IdentityOf(int64_t number) { return DigestOf(std::to_string(number)); }

// A database with `kNumCaches` caches in a directory of its own.
class Fixture {
 public:
  Fixture() {
    std::string pattern = std::filesystem::temp_directory_path() / "intarsia-bench-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
    auto database = Database::Open(path_ + "/kb", {.kv_bytes_max = int64_t{1} << 30});
    if (!database.ok()) std::abort();
    database_ = *std::move(database);
    payload_.assign(static_cast<size_t>(kLayerBytes), 'x');
    for (size_t i = 0; i < payload_.size(); ++i) payload_[i] = static_cast<char>(i * 31 + i / 251);
    for (int64_t i = 0; i < kNumCaches; ++i) Put(i);
  }
  ~Fixture() {
    database_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  void Put(int64_t number) {
    const std::vector<std::string_view> layers(static_cast<size_t>(kNumLayers), payload_);
    const auto outcome = store()->Put({.identity = IdentityOf(number),
                                       .shape = {.num_layers = kNumLayers, .num_tokens = 256},
                                       .layers = layers,
                                       .owner = {},
                                       .generation = store()->generation()});
    if (!outcome.ok() || *outcome != KvPutOutcome::kStored) std::abort();
  }
  KvStore* store() { return database_->kv(); }
  std::string segment_path() const { return path_ + "/kb/kv/segment-000001.kv"; }

 private:
  std::string path_;
  std::string payload_;
  std::unique_ptr<Database> database_;
};

void BM_KvStore_FindAndReadAllLayers(benchmark::State& state) {
  Fixture fixture;
  std::vector<uint8_t> target(static_cast<size_t>(kLayerBytes));
  int64_t number = 0;
  for (auto _ : state) {
    const auto handle = fixture.store()->Find(IdentityOf(number++ % kNumCaches));
    if (!handle.ok()) std::abort();
    for (int64_t layer = 0; layer < kNumLayers; ++layer) {
      if (!fixture.store()->ReadLayer(*handle, layer, target).ok()) std::abort();
    }
  }
  state.SetBytesProcessed(state.iterations() * kNumLayers * kLayerBytes);
}
BENCHMARK(BM_KvStore_FindAndReadAllLayers)->Iterations(48)->Repetitions(5)->UseRealTime();

void BM_KvStore_PlainReadAndChecksum(benchmark::State& state) {
  Fixture fixture;
  const int file = ::open(fixture.segment_path().c_str(), O_RDONLY);
  std::vector<char> target(static_cast<size_t>(kLayerBytes));
  int64_t number = 0;
  for (auto _ : state) {
    for (int64_t layer = 0; layer < kNumLayers; ++layer) {
      const int64_t offset = 4096 + ((number % kNumCaches) * kNumLayers + layer) * kLayerBytes;
      if (::pread(file, target.data(), target.size(), offset) != kLayerBytes) std::abort();
      benchmark::DoNotOptimize(ChecksumOf({target.data(), target.size()}));
    }
    ++number;
  }
  ::close(file);
  state.SetBytesProcessed(state.iterations() * kNumLayers * kLayerBytes);
}
BENCHMARK(BM_KvStore_PlainReadAndChecksum)->Iterations(48)->Repetitions(5)->UseRealTime();

void BM_KvStore_PlainRead(benchmark::State& state) {
  Fixture fixture;
  const int file = ::open(fixture.segment_path().c_str(), O_RDONLY);
  std::vector<char> target(static_cast<size_t>(kLayerBytes));
  int64_t layer = 0;
  for (auto _ : state) {
    const int64_t offset = 4096 + (layer++ % (kNumCaches * kNumLayers)) * kLayerBytes;
    if (::pread(file, target.data(), target.size(), offset) != kLayerBytes) std::abort();
    benchmark::DoNotOptimize(target.data());
  }
  ::close(file);
  state.SetBytesProcessed(state.iterations() * kLayerBytes);
}
BENCHMARK(BM_KvStore_PlainRead)->Iterations(1440)->Repetitions(5)->UseRealTime();

void BM_KvStore_Find(benchmark::State& state) {
  Fixture fixture;
  const Digest identity = IdentityOf(3);
  for (auto _ : state) {
    const auto handle = fixture.store()->Find(identity);
    benchmark::DoNotOptimize(handle.ok());
  }
}
BENCHMARK(BM_KvStore_Find)->Iterations(100'000)->Repetitions(5)->UseRealTime();

void BM_KvStore_Put(benchmark::State& state) {
  Fixture fixture;
  int64_t number = kNumCaches;
  for (auto _ : state) fixture.Put(number++);
  state.SetBytesProcessed(state.iterations() * kNumLayers * kLayerBytes);
}
BENCHMARK(BM_KvStore_Put)->Iterations(16)->Repetitions(5)->UseRealTime();

}  // namespace
}  // namespace intarsia::storage
