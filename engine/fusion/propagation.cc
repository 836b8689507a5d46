#include "engine/fusion/propagation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "kernels/spd_solve.h"

namespace intarsia::engine {
namespace {

// One chunk's system, solved as far as it does not depend on other chunks.
struct ChunkSystem {
  int64_t num_tokens = 0;          // n
  int64_t num_rows = 0;            // m
  std::vector<int64_t> rows;       // [m], offsets in the chunk, ascending
  std::vector<double> factor;      // [m, m] lower Cholesky factor of B
  std::vector<double> solved;      // [m, n]: R^-1 k_t in column t
  std::vector<double> solved_one;  // [m]: R^-1 1
  std::vector<double> u;           // [m]: B^-1 1
};

Status Factor(const PropagationKernel& kernel, ChunkSystem* system) {
  const int64_t n = system->num_tokens;
  const int64_t m = system->num_rows;
  if (m == 0) return Status::Ok();
  const std::vector<double> table = TabulateKernel(kernel, n);
  const auto entry = [&](int64_t x, int64_t y) {
    return table[static_cast<size_t>(std::abs(x - y))];
  };
  system->factor.resize(static_cast<size_t>(m * m));
  system->solved.resize(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    const int64_t at = system->rows[static_cast<size_t>(i)];
    for (int64_t j = 0; j < m; ++j) {
      system->factor[static_cast<size_t>(i * m + j)] =
          entry(at, system->rows[static_cast<size_t>(j)]) + (i == j ? kernel.noise : 0.0);
    }
    for (int64_t t = 0; t < n; ++t) system->solved[static_cast<size_t>(i * n + t)] = entry(at, t);
  }
  const kernels::SquareMatrix factor = {.data = system->factor.data(), .size = m, .stride = m};
  INTARSIA_RETURN_IF_ERROR(kernels::Cholesky(factor));
  INTARSIA_RETURN_IF_ERROR(
      kernels::SolveLower(factor, {.data = system->solved.data(), .num_columns = n, .stride = n}));
  system->solved_one.assign(static_cast<size_t>(m), 1.0);
  INTARSIA_RETURN_IF_ERROR(kernels::SolveLower(
      factor, {.data = system->solved_one.data(), .num_columns = 1, .stride = 1}));
  system->u = system->solved_one;
  return kernels::SolveLowerTransposed(factor,
                                       {.data = system->u.data(), .num_columns = 1, .stride = 1});
}

double Sum(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum;
}

// B^-1 k_t of every token at once; `gamma` is that of all rows.
Status FinishTwoSided(const ChunkSystem& system, double gamma, PropagationWeights* result) {
  const int64_t n = system.num_tokens;
  const int64_t m = system.num_rows;
  std::vector<double> columns = system.solved;
  if (m > 0) {
    INTARSIA_RETURN_IF_ERROR(kernels::SolveLowerTransposed(
        {.data = const_cast<double*>(system.factor.data()), .size = m, .stride = m},
        {.data = columns.data(), .num_columns = n, .stride = n}));
  }
  // Blocks of tokens, so that what a row touches of `weights` stays in the cache for the next row.
  constexpr int64_t kTokensPerBlock = 64;
  std::array<double, kTokensPerBlock> k_dot_u{};  // = (R^-1 k_t) . (R^-1 1)
  for (int64_t begin = 0; begin < n; begin += kTokensPerBlock) {
    const int64_t count = std::min(kTokensPerBlock, n - begin);
    float* const weights = result->weights.data() + begin * (m + 1);
    k_dot_u.fill(0.0);
    for (int64_t s = 0; s < m; ++s) {
      const double* const column = columns.data() + s * n + begin;
      const double* const solved = system.solved.data() + s * n + begin;
      const double one = system.solved_one[static_cast<size_t>(s)];
      for (int64_t t = 0; t < count; ++t) {
        weights[t * (m + 1) + s] = static_cast<float>(column[t]);
        k_dot_u[static_cast<size_t>(t)] += solved[t] * one;
      }
    }
    for (int64_t t = 0; t < count; ++t) {
      weights[t * (m + 1) + m] =
          static_cast<float>(gamma * (1.0 - k_dot_u[static_cast<size_t>(t)]));
    }
  }
  return Status::Ok();
}

// The same given only the rows s <= t. Tokens between two rows see the same prefix of `size` rows,
// whose factor is the leading block of R, so all of them are one solve. `sum_before` is 1^T u of
// earlier chunks.
Status FinishCausal(const ChunkSystem& system, double c0, double sum_before,
                    PropagationWeights* result) {
  const int64_t n = system.num_tokens;
  const int64_t m = system.num_rows;
  for (int64_t size = 0; size <= m; ++size) {
    const int64_t begin = size == 0 ? 0 : system.rows[static_cast<size_t>(size - 1)];
    const int64_t end = size == m ? n : system.rows[static_cast<size_t>(size)];
    const int64_t width = end - begin + 1;  // the tokens, and 1 for the prefix's u
    std::vector<double> columns(static_cast<size_t>(size * width));
    double sum_u = 0.0;  // 1^T u of the prefix = |R^-1 1|^2
    for (int64_t s = 0; s < size; ++s) {
      for (int64_t t = begin; t < end; ++t) {
        columns[static_cast<size_t>(s * width + t - begin)] =
            system.solved[static_cast<size_t>(s * n + t)];
      }
      const double one = system.solved_one[static_cast<size_t>(s)];
      columns[static_cast<size_t>(s * width + width - 1)] = one;
      sum_u += one * one;
    }
    if (size > 0) {
      INTARSIA_RETURN_IF_ERROR(kernels::SolveLowerTransposed(
          {.data = const_cast<double*>(system.factor.data()), .size = size, .stride = m},
          {.data = columns.data(), .num_columns = width, .stride = width}));
    }
    const double gamma = c0 / (1.0 + c0 * (sum_before + sum_u));
    for (int64_t t = begin; t < end; ++t) {
      double k_dot_u = 0.0;
      for (int64_t s = 0; s < size; ++s) {
        k_dot_u += system.solved[static_cast<size_t>(s * n + t)] *
                   system.solved_one[static_cast<size_t>(s)];
      }
      const double beta = gamma * (1.0 - k_dot_u);
      float* const weights = result->weights.data() + t * (m + 1);
      for (int64_t s = 0; s < size; ++s) {
        const double* const row = columns.data() + s * width;
        weights[s] = static_cast<float>(row[t - begin] + beta * row[width - 1]);
      }
      weights[m] = static_cast<float>(beta);
    }
  }
  return Status::Ok();
}

}  // namespace

std::vector<double> TabulateKernel(const PropagationKernel& kernel, int64_t size) {
  std::vector<double> table(static_cast<size_t>(size));
  for (int64_t distance = 0; distance < size; ++distance) {
    const auto d = static_cast<double>(distance);
    table[static_cast<size_t>(distance)] =
        kernel.a * std::exp(-d / kernel.t1) + kernel.b * std::exp(-d / kernel.t2) + kernel.c;
  }
  return table;
}

Result<Propagation> Propagation::Create(const Prompt& prompt, std::span<const int32_t> rows,
                                        PropagationMode mode, ThreadPool* pool) {
  INTARSIA_CHECK(mode != PropagationMode::kOff);
  Propagation propagation;
  propagation.mode_ = mode;
  for (size_t index = 0; index < prompt.segments().size(); ++index) {
    const Segment& segment = prompt.segments()[index];
    if (segment.cached == nullptr || segment.is_exact) continue;
    ChunkPropagation& chunk = propagation.chunks_.emplace_back();
    chunk.segment = index;
    const auto first = std::lower_bound(rows.begin(), rows.end(), segment.begin);
    const auto last = std::lower_bound(first, rows.end(), segment.end);
    chunk.rows.assign(first, last);
  }
  const auto num_chunks = static_cast<int64_t>(propagation.chunks_.size());
  // Keys of all chunks, then values: enough pieces for the threads to share evenly.
  std::vector<ChunkSystem> systems(2 * propagation.chunks_.size());
  std::vector<Status> errors(systems.size());
  pool->ParallelFor(2 * num_chunks, [&](int64_t item, int) {
    const ChunkPropagation& chunk = propagation.chunks_[static_cast<size_t>(item % num_chunks)];
    ChunkSystem& system = systems[static_cast<size_t>(item)];
    const Segment& segment = prompt.segments()[chunk.segment];
    system.num_tokens = segment.size();
    system.num_rows = static_cast<int64_t>(chunk.rows.size());
    for (const int32_t position : chunk.rows) system.rows.push_back(position - segment.begin);
    errors[static_cast<size_t>(item)] =
        Factor(item < num_chunks ? kKeyKernel : kValueKernel, &system);
  });
  std::vector<double> sums_before;
  std::array<double, 2> sums_all{};  // of keys, of values
  for (int64_t item = 0; item < 2 * num_chunks; ++item) {
    double& sum = sums_all[item < num_chunks ? 0 : 1];
    sums_before.push_back(sum);
    sum += Sum(systems[static_cast<size_t>(item)].u);
  }
  pool->ParallelFor(2 * num_chunks, [&](int64_t item, int) {
    const auto at = static_cast<size_t>(item);
    if (!errors[at].ok()) return;
    const bool is_key = item < num_chunks;
    const ChunkSystem& system = systems[at];
    ChunkPropagation& chunk = propagation.chunks_[static_cast<size_t>(item % num_chunks)];
    PropagationWeights* const result = is_key ? &chunk.key : &chunk.value;
    result->weights.resize(static_cast<size_t>(system.num_tokens * (system.num_rows + 1)));
    result->u.assign(system.u.begin(), system.u.end());
    const double c0 = (is_key ? kKeyKernel : kValueKernel).c0;
    errors[at] = mode == PropagationMode::kCausal
                     ? FinishCausal(system, c0, sums_before[at], result)
                     : FinishTwoSided(system, c0 / (1.0 + c0 * sums_all[is_key ? 0 : 1]), result);
  });
  for (const Status& error : errors) {
    if (!error.ok()) return Status(StatusCode::kInternal, "propagation: " + error.ToString());
  }
  return propagation;
}

}  // namespace intarsia::engine
