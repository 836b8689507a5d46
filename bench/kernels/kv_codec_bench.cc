// EncodeKv and DecodeKv, one thread: stored bytes a second. Decoding walks many payloads into one
// small target, as placing does: the stored bytes come from memory, the numbers stay in the cache.
#include <cstdint>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

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

void BM_KvCodec_Decode(benchmark::State& state) {
  const auto type = static_cast<KvPayloadType>(state.range(0));
  const std::vector<uint8_t> one = Encoded(type);
  std::vector<std::vector<uint8_t>> payloads(kPayloads, one);
  std::vector<float> target(kTaskTokens * kWidth);
  const auto work = [&] {
    for (const std::vector<uint8_t>& payload : payloads) {
      for (const KvHalf half : {KvHalf::kKey, KvHalf::kValue}) {
        for (int64_t begin = 0; begin < kTokens; begin += kTaskTokens) {
          const Status status = DecodeKv({.type = type,
                                          .payload = payload.data(),
                                          .payload_bytes = std::ssize(payload),
                                          .num_tokens = kTokens,
                                          .width = kWidth,
                                          .half = half,
                                          .begin = begin,
                                          .count = kTaskTokens,
                                          .target = target.data()});
          if (!status.ok()) return status;
        }
      }
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

// The argument is the payload's type: 1 bf16, 3 int8, 4 int4.
BENCHMARK(BM_KvCodec_Decode)->Arg(1)->Arg(3)->Arg(4)->Iterations(20)->UseManualTime();
BENCHMARK(BM_KvCodec_CopyBaseline)->Arg(1)->Arg(3)->Arg(4)->Iterations(20)->UseManualTime();
BENCHMARK(BM_KvCodec_Encode)->Arg(1)->Arg(3)->Arg(4)->Iterations(20)->UseManualTime();

}  // namespace
}  // namespace intarsia::kernels
