// The CUDA forms of AttentionRows and AttentionMass against the peaks of the device: floating-point
// operations on visible keys per second for prefill and chosen rows, bytes of keys and values per
// second for decode, beside a copy that moves as many.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/convert.h"
#include "kernels/device.h"
#include "tests/kernels/attention_rows_cases.h"

namespace intarsia::kernels {
namespace {

DeviceBuffer Allocate(int64_t num_bytes) {
  Result<DeviceBuffer> buffer =
      DeviceBuffer::Allocate(std::max<int64_t>(num_bytes, 256), /*stream=*/nullptr);
  INTARSIA_CHECK(buffer.ok());
  return std::move(*buffer);
}

template <typename T>
void Upload(const DeviceBuffer& target, const std::vector<T>& values) {
  INTARSIA_CHECK(CopyToDevice(target.data(), values.data(),
                              static_cast<int64_t>(values.size() * sizeof(T)), nullptr)
                     .ok());
}

// Normal numbers in bf16, the same 2^20 again and again.
void FillRandom(const DeviceBuffer& buffer) {
  auto* const target = buffer.as<uint16_t>();
  const int64_t num_elements = buffer.num_bytes() / 2;
  constexpr int64_t kPattern = int64_t{1} << 20;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> pattern(kPattern);
  for (uint16_t& x : pattern) x = F32ToBf16(normal(random));
  for (int64_t i = 0; i < num_elements; i += kPattern) {
    const int64_t num_bytes = std::min(kPattern, num_elements - i) * 2;
    INTARSIA_CHECK(CopyToDevice(target + i, pattern.data(), num_bytes, nullptr).ok());
  }
}

struct Shape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};

// The heads of Llama-3-8B, Qwen2.5-0.5B and Gemma-3.
constexpr Shape kShapes[] = {{32, 8, 128}, {14, 2, 64}, {8, 4, 256}};

// Rows of one request, or with `num_requests` > 1 the last token of each of so many.
class BenchData {
 public:
  BenchData(const Shape& shape, std::vector<int32_t> positions, int64_t num_requests)
      : shape_(shape),
        num_rows_(static_cast<int64_t>(positions.size())),
        num_keys_(int64_t{*std::max_element(positions.begin(), positions.end())} + 1),
        pages_per_request_(NumPagesFor(num_keys_)),
        num_requests_(num_requests),
        k_(Allocate(PoolBytes())),
        v_(Allocate(PoolBytes())),
        q_(Allocate(QueryBytes())),
        output_(Allocate(QueryBytes())),
        positions_(Allocate(num_rows_ * 4)),
        table_(Allocate(num_requests * pages_per_request_ * 4)),
        weights_(Allocate(num_rows_ * 4)),
        mass_(Allocate(num_keys_ * 4)),
        lse_(Allocate(num_rows_ * shape.num_heads * 4)) {
    FillRandom(k_);
    FillRandom(v_);
    FillRandom(q_);
    std::vector<int32_t> table =
        PositionRange(0, static_cast<int32_t>(num_requests * pages_per_request_));
    std::shuffle(table.begin(), table.end(), std::mt19937(3));
    Upload(table_, table);
    Upload(positions_, positions);
    Upload(weights_, std::vector<float>(positions.size(), 1.0F));
    for (const int32_t position : positions) num_visible_ += position + 1.0;
    AttentionRowsCudaParams params = Params();
    const Result<int64_t> workspace_bytes = AttentionRowsWorkspaceBytes(params);
    INTARSIA_CHECK(workspace_bytes.ok());
    workspace_ = Allocate(*workspace_bytes);
  }

  AttentionRowsCudaParams Params() const {
    return {.layer = {.k_pages = k_.as<uint16_t>(),
                      .v_pages = v_.as<uint16_t>(),
                      .page_table = table_.as<int32_t>(),
                      .num_pages = num_requests_ * pages_per_request_,
                      .num_tokens = num_keys_,
                      .num_kv_heads = shape_.num_kv_heads,
                      .head_dim = shape_.head_dim},
            .page_table_stride = num_requests_ > 1 ? pages_per_request_ : 0,
            .q = q_.as<uint16_t>(),
            .positions = positions_.as<int32_t>(),
            .num_rows = num_rows_,
            .max_position = num_keys_ - 1,
            .num_heads = shape_.num_heads,
            .scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)),
            .output = output_.as<uint16_t>(),
            .lse = lse_.as<float>(),
            .workspace = workspace_.data(),
            .workspace_bytes = workspace_.num_bytes()};
  }
  AttentionMassCudaParams MassParams() const {
    return {.rows = Params(),
            .weights = weights_.as<float>(),
            .lse = lse_.as<float>(),
            .mass = mass_.as<float>(),
            .num_keys = num_keys_};
  }
  double NumFlops() const { return 4.0 * shape_.head_dim * shape_.num_heads * num_visible_; }
  // Keys and values, read once.
  double NumBytes() const {
    return 4.0 * shape_.head_dim * shape_.num_kv_heads *
           static_cast<double>(num_requests_ * num_keys_);
  }

 private:
  int64_t PoolBytes() const {
    return num_requests_ * pages_per_request_ * PageElements(shape_.num_kv_heads, shape_.head_dim) *
           2;
  }
  int64_t QueryBytes() const { return num_rows_ * shape_.num_heads * shape_.head_dim * 2; }

  const Shape shape_;
  const int64_t num_rows_;
  const int64_t num_keys_;
  const int64_t pages_per_request_;
  const int64_t num_requests_;
  double num_visible_ = 0.0;
  const DeviceBuffer k_;
  const DeviceBuffer v_;
  const DeviceBuffer q_;
  const DeviceBuffer output_;
  const DeviceBuffer positions_;
  const DeviceBuffer table_;
  const DeviceBuffer weights_;
  const DeviceBuffer mass_;
  const DeviceBuffer lse_;
  DeviceBuffer workspace_;
};

// The milliseconds on the device that enqueued work takes, from a cold cache.
class Timer {
 public:
  Timer() : flush_(Allocate(int64_t{256} << 20)), begin_(CreateEvent()), end_(CreateEvent()) {}

  // Errors: what `enqueue` returns; kInternal if the work fails on the device.
  template <typename Enqueue>
  Status Measure(const Enqueue& enqueue, double* seconds) {
    INTARSIA_RETURN_IF_ERROR(FillDevice(flush_.data(), 0, flush_.num_bytes(), nullptr));
    INTARSIA_RETURN_IF_ERROR(begin_.Record(nullptr));
    INTARSIA_RETURN_IF_ERROR(enqueue(Stream{nullptr}));
    INTARSIA_RETURN_IF_ERROR(end_.Record(nullptr));
    INTARSIA_RETURN_IF_ERROR(end_.Wait());
    INTARSIA_ASSIGN_OR_RETURN(const float milliseconds, end_.MillisecondsSince(begin_));
    *seconds = double{milliseconds} * 1e-3;
    return Status::Ok();
  }

 private:
  static DeviceEvent CreateEvent() {
    Result<DeviceEvent> event = DeviceEvent::Create(EventTiming::kOn);
    INTARSIA_CHECK(event.ok());
    return std::move(*event);
  }

  const DeviceBuffer flush_;
  DeviceEvent begin_;
  DeviceEvent end_;
};

// Times `enqueue` and reports the median beside `flops` and `bytes` per second of it.
template <typename Enqueue>
void RunDevice(benchmark::State& state, double flops, double bytes, const Enqueue& enqueue) {
  Timer timer;
  double seconds = 0.0;
  std::vector<double> all;
  for (int i = 0; i < 2; ++i) timer.Measure(enqueue, &seconds).IgnoreError();  // Warm-up.
  for (auto _ : state) {
    if (const Status status = timer.Measure(enqueue, &seconds); !status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      return;
    }
    state.SetIterationTime(seconds);
    all.push_back(seconds);
  }
  std::nth_element(all.begin(), all.begin() + static_cast<int64_t>(all.size() / 2), all.end());
  const double median = all[all.size() / 2];
  state.counters["us"] = median * 1e6;
  state.counters["TFLOP/s"] = flops / median * 1e-12;
  state.counters["GB/s"] = bytes / median * 1e-9;
}

void RunRows(benchmark::State& state, const BenchData& data) {
  RunDevice(state, data.NumFlops(), data.NumBytes(),
            [&](Stream stream) { return AttentionRowsCuda(data.Params(), stream); });
}

// All rows: {shape, tokens}.
void BM_AttentionRowsCuda_Prefill(benchmark::State& state) {
  RunRows(state, BenchData(kShapes[state.range(0)],
                           PositionRange(0, static_cast<int32_t>(state.range(1))), 1));
}

// Scattered rows: {shape, rows, keys}.
void BM_AttentionRowsCuda_Chosen(benchmark::State& state) {
  RunRows(state,
          BenchData(kShapes[state.range(0)],
                    ScatteredPositions(state.range(1), static_cast<int32_t>(state.range(2))), 1));
}

// The last rows: {shape, rows, keys}.
void BM_AttentionRowsCuda_Last(benchmark::State& state) {
  const auto num_keys = static_cast<int32_t>(state.range(2));
  RunRows(state,
          BenchData(kShapes[state.range(0)],
                    PositionRange(num_keys - static_cast<int32_t>(state.range(1)), num_keys), 1));
}

// The mass of the last rows, their log-sum-exps being known: {shape, rows, keys}.
void BM_AttentionMassCuda_Last(benchmark::State& state) {
  const auto num_keys = static_cast<int32_t>(state.range(2));
  const BenchData data(kShapes[state.range(0)],
                       PositionRange(num_keys - static_cast<int32_t>(state.range(1)), num_keys), 1);
  if (const Status status = AttentionRowsCuda(data.Params(), nullptr); !status.ok()) {
    state.SkipWithError(status.ToString().c_str());
    return;
  }
  AttentionMassCudaParams params = data.MassParams();
  const Result<int64_t> workspace_bytes = AttentionMassWorkspaceBytes(params);
  INTARSIA_CHECK(workspace_bytes.ok());
  const DeviceBuffer workspace = Allocate(*workspace_bytes);
  params.rows.workspace = workspace.data();
  params.rows.workspace_bytes = workspace.num_bytes();
  RunDevice(state, data.NumFlops() / 2.0, data.NumBytes() / 2.0,
            [&](Stream stream) { return AttentionMassCuda(params, stream); });
}

// One row of each of several requests: {shape, requests, keys}.
void BM_AttentionRowsCuda_Batch(benchmark::State& state) {
  const std::vector<int32_t> positions(static_cast<size_t>(state.range(1)),
                                       static_cast<int32_t>(state.range(2)) - 1);
  RunRows(state, BenchData(kShapes[state.range(0)], positions, state.range(1)));
}

// A copy on the device that reads and writes so many MiB in all.
void BM_AttentionRowsCuda_Copy(benchmark::State& state) {
  const int64_t num_bytes = state.range(0) << 20;
  const DeviceBuffer source = Allocate(num_bytes / 2);
  const DeviceBuffer target = Allocate(num_bytes / 2);
  FillRandom(source);
  RunDevice(state, 0.0, static_cast<double>(num_bytes), [&](Stream stream) {
    return CopyOnDevice(target.data(), source.data(), num_bytes / 2, stream);
  });
}

BENCHMARK(BM_AttentionRowsCuda_Prefill)
    ->ArgsProduct({{0}, {1'024, 2'048, 4'096, 5'200, 8'192, 16'384, 32'768, 65'536}})
    ->ArgsProduct({{1, 2}, {8'192, 32'768}})
    ->Iterations(7)
    ->UseManualTime();
BENCHMARK(BM_AttentionRowsCuda_Chosen)
    ->Args({0, 260, 5'200})
    ->Args({0, 780, 5'200})
    ->Args({0, 1'640, 32'768})
    ->Args({0, 4'900, 32'768})
    ->Args({1, 780, 5'200})
    ->Args({2, 780, 5'200})
    ->Iterations(15)
    ->UseManualTime();
BENCHMARK(BM_AttentionRowsCuda_Last)
    ->ArgsProduct({{0}, {1}, {1'024, 5'200, 16'384, 65'536}})
    ->ArgsProduct({{0}, {4, 16, 64}, {5'200, 32'768}})
    ->ArgsProduct({{1, 2}, {1}, {32'768}})
    ->Iterations(25)
    ->UseManualTime();
BENCHMARK(BM_AttentionMassCuda_Last)
    ->ArgsProduct({{0}, {64}, {5'200, 32'768}})
    ->Iterations(25)
    ->UseManualTime();
BENCHMARK(BM_AttentionRowsCuda_Batch)
    ->ArgsProduct({{0}, {8, 32}, {5'200, 32'768}})
    ->Iterations(15)
    ->UseManualTime();
BENCHMARK(BM_AttentionRowsCuda_Copy)
    ->Arg(20)
    ->Arg(256)
    ->Arg(2'048)
    ->Iterations(15)
    ->UseManualTime();

}  // namespace
}  // namespace intarsia::kernels
