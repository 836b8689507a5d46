// RunReadRoof: the bytes a second that threads read from memory, which bounds every kernel that
// reads its data once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/thread_pool.h"
#include "bench/kernels/host_timer.h"
#include "bench/kernels/run_timed.h"

namespace intarsia::kernels {

// {number of bytes, number of threads}: reads all bytes once from a cold cache, in pieces of 256
// KiB shared by the threads, asking for them 8 KiB ahead, as the kernels do.
inline void RunReadRoof(benchmark::State& state) {
  constexpr int64_t kItemWords = int64_t{32} << 10;
  const std::vector<uint64_t> words(static_cast<size_t>(state.range(0)) / sizeof(uint64_t), 1);
  const auto num_words = static_cast<int64_t>(words.size());
  ThreadPool pool(static_cast<int>(state.range(1)));
  RunTimed<HostTimer>(state, state.range(0), [&] {
    std::atomic<uint64_t> total{0};
    pool.ParallelFor((num_words + kItemWords - 1) / kItemWords, [&](int64_t item, int) {
      const int64_t end = std::min(num_words, (item + 1) * kItemWords);
      uint64_t sums[8] = {};
      for (int64_t i = item * kItemWords; i + 8 <= end; i += 8) {
        __builtin_prefetch(words.data() + i + 1'024);
        for (int64_t k = 0; k < 8; ++k) sums[k] += words[static_cast<size_t>(i + k)];
      }
      for (const uint64_t sum : sums) total.fetch_add(sum, std::memory_order_relaxed);
    });
    benchmark::DoNotOptimize(total.load());
    return Status::Ok();
  });
}

}  // namespace intarsia::kernels
