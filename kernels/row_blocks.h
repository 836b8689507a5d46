// ForEachRowBlock: a loop over rows, cut into runs that are worth a thread's attention.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"

namespace intarsia::kernels {

// Elements below which a run of rows is not split further: some microseconds of work.
inline constexpr int64_t kRowBlockElements = 16'384;

// Calls body(row_begin, row_end) for runs that cover [0, num_rows), on the threads of `pool` or on
// the calling one if it is null. `row_elements` > 0 says how large a row is.
template <typename Body>
void ForEachRowBlock(ThreadPool* pool, int64_t num_rows, int64_t row_elements, const Body& body) {
  if (num_rows <= 0) return;
  const int64_t rows_min = std::max<int64_t>(1, kRowBlockElements / row_elements);
  if (pool == nullptr || pool->num_threads() == 1 || num_rows < 2 * rows_min) {
    body(int64_t{0}, num_rows);
    return;
  }
  // Several runs a thread, because threads are not equally fast.
  const int64_t num_runs = std::min(num_rows / rows_min, int64_t{4} * pool->num_threads());
  pool->ParallelFor(num_runs, [&](int64_t run, int /*worker*/) {
    body(num_rows * run / num_runs, num_rows * (run + 1) / num_runs);
  });
}

}  // namespace intarsia::kernels
