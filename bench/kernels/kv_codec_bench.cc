// EncodeKv and DecodeKv, one thread: stored bytes a second. Decoding walks many payloads into one
// small target, as placing does: the stored bytes come from memory, the numbers stay in the cache.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>
#include <time.h>

#include "base/aligned_array.h"
#include "base/file.h"
#include "base/hash.h"
#include "bench/kernels/host_timer.h"
#include "bench/kernels/run_timed.h"
#include "kernels/kv_codec.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kTokens = 384;
constexpr int64_t kWidth = 192;
constexpr int64_t kTaskTokens = 128;
constexpr int64_t kPayloads = 64;

std::vector<uint8_t> Encoded(KvPayloadType type) {
  const auto k = RandomFloats(kTokens * kWidth, 1);
  const auto v = RandomFloats(kTokens * kWidth, 2);
  std::vector<uint8_t> payload(static_cast<size_t>(KvPayloadBytes(type, kTokens, kWidth)));
  EncodeKv({.type = type,
            .k = k.data(),
            .v = v.data(),
            .num_tokens = kTokens,
            .width = kWidth,
            .payload = payload.data(),
            .payload_bytes = std::ssize(payload)})
      .IgnoreError();  // normal numbers
  return payload;
}

// Decodes both halves of a payload, `task_tokens` at a time into the same place.
Status DecodeAll(KvPayloadType type, const uint8_t* payload, int64_t payload_bytes,
                 int64_t task_tokens, float* target) {
  for (const KvHalf half : {KvHalf::kKey, KvHalf::kValue}) {
    for (int64_t begin = 0; begin < kTokens; begin += task_tokens) {
      const Status status = DecodeKv({.type = type,
                                      .payload = payload,
                                      .payload_bytes = payload_bytes,
                                      .num_tokens = kTokens,
                                      .width = kWidth,
                                      .half = half,
                                      .begin = begin,
                                      .count = task_tokens,
                                      .target = target});
      if (!status.ok()) return status;
    }
  }
  return Status::Ok();
}

void BM_KvCodec_Decode(benchmark::State& state) {
  const auto type = static_cast<KvPayloadType>(state.range(0));
  const std::vector<uint8_t> one = Encoded(type);
  std::vector<std::vector<uint8_t>> payloads(kPayloads, one);
  AlignedArray<float> target(kTaskTokens * kWidth);
  const auto work = [&] {
    for (const std::vector<uint8_t>& payload : payloads) {
      const Status status =
          DecodeAll(type, payload.data(), std::ssize(payload), kTaskTokens, target.data());
      if (!status.ok()) return status;
    }
    return Status::Ok();
  };
  RunTimed<HostTimer>(state, kPayloads * std::ssize(one), work);
}

// What reading the same bytes costs at least: a copy of the payloads into a small target.
void BM_KvCodec_CopyBaseline(benchmark::State& state) {
  const std::vector<uint8_t> one = Encoded(static_cast<KvPayloadType>(state.range(0)));
  std::vector<std::vector<uint8_t>> payloads(kPayloads, one);
  std::vector<uint8_t> target(one.size());
  const auto work = [&] {
    for (const std::vector<uint8_t>& payload : payloads) {
      std::memcpy(target.data(), payload.data(), payload.size());
      benchmark::DoNotOptimize(target.data());
    }
    return Status::Ok();
  };
  RunTimed<HostTimer>(state, kPayloads * std::ssize(one), work);
}

// Seconds of the processor for this thread: what other programs take does not count.
double ThreadSeconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// A file of payloads in a directory of its own, larger than the last-level cache.
class PayloadFile {
 public:
  explicit PayloadFile(const std::vector<uint8_t>& payload)
      : num_payloads_(kFileBytes / std::ssize(payload)) {
    std::string pattern = std::filesystem::temp_directory_path() / "intarsia-bench-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    directory_ = pattern;
    std::string bytes;
    for (int64_t i = 0; i < num_payloads_; ++i) bytes.append(payload.begin(), payload.end());
    const std::string path = directory_ + "/payloads";
    if (!FileSystem::Local()->WriteAtomically(path, bytes).ok()) std::abort();
    auto file = FileSystem::Local()->OpenForReading(path);
    if (!file.ok()) std::abort();
    file_ = *std::move(file);
  }
  ~PayloadFile() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  PayloadFile(const PayloadFile&) = delete;
  PayloadFile& operator=(const PayloadFile&) = delete;
  const RandomAccessFile& file() const { return *file_; }
  int64_t num_payloads() const { return num_payloads_; }

 private:
  static constexpr int64_t kFileBytes = int64_t{96} << 20;

  const int64_t num_payloads_;
  std::string directory_;
  std::unique_ptr<RandomAccessFile> file_;
};

// What decoding costs beside what comes before it: reading the payloads of a warm file with their
// checksums. Passes that read and passes that read and decode take turns; the least time of each
// counts, of the processor and not of the clock. A pipeline of two threads runs at the lower of the
// two rates.
void BM_KvCodec_BesideReading(benchmark::State& state) {
  const auto type = static_cast<KvPayloadType>(state.range(0));
  const std::vector<uint8_t> one = Encoded(type);
  const PayloadFile payloads(one);
  constexpr int64_t kTokensAtATime = 32;
  AlignedArray<float> target(kTokensAtATime * kWidth);
  AlignedArray<uint8_t> bytes(std::ssize(one));
  const auto pass = [&](bool decodes) {
    const double begin = ThreadSeconds();
    for (int64_t i = 0; i < payloads.num_payloads(); ++i) {
      Status status = payloads.file().ReadAt(i * std::ssize(one), std::ssize(one), bytes.data());
      benchmark::DoNotOptimize(
          ChecksumOf({reinterpret_cast<const char*>(bytes.data()), one.size()}));
      if (status.ok() && decodes) {
        status = DecodeAll(type, bytes.data(), std::ssize(one), kTokensAtATime, target.data());
      }
      if (!status.ok()) std::abort();
    }
    return ThreadSeconds() - begin;
  };
  double read_seconds = std::numeric_limits<double>::infinity();
  double both_seconds = read_seconds;
  for (auto _ : state) {
    read_seconds = std::min(read_seconds, pass(/*decodes=*/false));
    both_seconds = std::min(both_seconds, pass(/*decodes=*/true));
  }
  const double gigabytes = 1e-9 * static_cast<double>(payloads.num_payloads() * std::ssize(one));
  state.counters["read_GB/s"] = gigabytes / read_seconds;
  state.counters["decode_GB/s"] = gigabytes / (both_seconds - read_seconds);
  state.counters["decode_over_read"] = read_seconds / (both_seconds - read_seconds);
  state.counters["Gnumbers/s"] =
      1e-9 * static_cast<double>(payloads.num_payloads() * 2 * kTokens * kWidth) /
      (both_seconds - read_seconds);
}

void BM_KvCodec_Encode(benchmark::State& state) {
  const auto type = static_cast<KvPayloadType>(state.range(0));
  const auto k = RandomFloats(kTokens * kWidth, 1);
  const auto v = RandomFloats(kTokens * kWidth, 2);
  std::vector<uint8_t> payload(static_cast<size_t>(KvPayloadBytes(type, kTokens, kWidth)));
  const auto work = [&] {
    return EncodeKv({.type = type,
                     .k = k.data(),
                     .v = v.data(),
                     .num_tokens = kTokens,
                     .width = kWidth,
                     .payload = payload.data(),
                     .payload_bytes = std::ssize(payload)});
  };
  RunTimed<HostTimer>(state, std::ssize(payload), work);
}

// The argument is the payload's type: 1 bf16, 3 int8, 4 int4, 5 rot4.
BENCHMARK(BM_KvCodec_Decode)->Arg(1)->Arg(3)->Arg(4)->Arg(5)->Iterations(20)->UseManualTime();
BENCHMARK(BM_KvCodec_CopyBaseline)->Arg(1)->Arg(3)->Arg(4)->Arg(5)->Iterations(20)->UseManualTime();
BENCHMARK(BM_KvCodec_BesideReading)->Arg(1)->Arg(3)->Arg(4)->Arg(5)->Iterations(20);
BENCHMARK(BM_KvCodec_Encode)->Arg(1)->Arg(3)->Arg(4)->Arg(5)->Iterations(20)->UseManualTime();

}  // namespace
}  // namespace intarsia::kernels
