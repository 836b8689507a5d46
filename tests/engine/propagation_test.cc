#include "engine/fusion/propagation.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::engine {
namespace {

// The Gaussian-process mean by its textbook formula: one dense system over all rows.
std::vector<double> DenseWeights(const PropagationKernel& kernel, const std::vector<int32_t>& rows,
                                 const std::vector<int>& chunk_of, int32_t token,
                                 PropagationMode mode) {
  const auto k = [&](int32_t x, int32_t y) {
    const double d = std::abs(x - y);
    const bool same = chunk_of[static_cast<size_t>(x)] == chunk_of[static_cast<size_t>(y)];
    return (same ? kernel.a * std::exp(-d / kernel.t1) + kernel.b * std::exp(-d / kernel.t2) +
                       kernel.c
                 : 0.0) +
           kernel.c0;
  };
  std::vector<size_t> seen;
  for (size_t s = 0; s < rows.size(); ++s) {
    if (mode == PropagationMode::kTwoSided || rows[s] <= token) seen.push_back(s);
  }
  const size_t n = seen.size();
  std::vector<std::vector<double>> a(n, std::vector<double>(n + 1));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      a[i][j] = k(rows[seen[i]], rows[seen[j]]) + (i == j ? kernel.noise : 0.0);
    }
    a[i][n] = k(token, rows[seen[i]]);
  }
  for (size_t p = 0; p < n; ++p) {  // Gauss-Jordan; the matrix is positive definite
    for (size_t i = 0; i < n; ++i) {
      if (i == p) continue;
      const double factor = a[i][p] / a[p][p];
      for (size_t j = p; j <= n; ++j) a[i][j] -= factor * a[p][j];
    }
  }
  std::vector<double> weights(rows.size());
  for (size_t i = 0; i < n; ++i) weights[seen[i]] = a[i][n] / a[i][i];
  return weights;
}

struct Layout {
  std::vector<std::unique_ptr<MemoryKv>> caches;
  std::vector<PromptPart> parts;
  PromptPart header;
  std::vector<int> chunk_of;  // by position; -1 outside of chunks

  explicit Layout(const std::vector<int64_t>& sizes) {
    header = Part(5);
    chunk_of.assign(5, -1);
    for (size_t i = 0; i < sizes.size(); ++i) {
      parts.push_back(Part(sizes[i]));
      chunk_of.insert(chunk_of.end(), static_cast<size_t>(sizes[i]), static_cast<int>(i));
    }
  }
  PromptPart Part(int64_t size) {
    caches.push_back(
        std::make_unique<MemoryKv>(KvPayloadType::kF32, size, std::vector<std::vector<uint8_t>>()));
    return {.tokens = std::vector<int32_t>(static_cast<size_t>(size), 1),
            .cached = caches.back().get()};
  }
  Prompt Make() const { return *Prompt::Create(header, parts, std::vector<int32_t>{1, 2}); }
};

class PropagationTest : public ::testing::TestWithParam<PropagationMode> {};

TEST_P(PropagationTest, BlockSolveEqualsTheDenseGaussianProcess) {
  const Layout layout({7, 23, 1, 40, 12});
  const Prompt prompt = layout.Make();
  std::mt19937 random(3);
  for (const double share : {0.02, 0.15, 0.6}) {
    std::vector<int32_t> rows;
    for (const int32_t position : prompt.Candidates()) {
      if (std::uniform_real_distribution<double>()(random) < share) rows.push_back(position);
    }
    if (rows.empty()) rows.push_back(prompt.Candidates().front());
    ThreadPool pool(2);
    const auto propagation = Propagation::Create(prompt, rows, GetParam(), &pool);
    ASSERT_TRUE(propagation.ok()) << propagation.status();
    // D_s = one unit at row s: what reaches token t is the weight of s, by whichever way.
    for (const bool is_key : {true, false}) {
      const PropagationKernel& kernel = is_key ? kKeyKernel : kValueKernel;
      for (size_t index = 0; index < propagation->chunks().size(); ++index) {
        const ChunkPropagation& chunk = propagation->chunks()[index];
        const PropagationWeights& weights = is_key ? chunk.key : chunk.value;
        const Segment& segment = prompt.segments()[chunk.segment];
        const size_t width = chunk.rows.size() + 1;
        for (int64_t t = segment.begin; t < segment.end; ++t) {
          const std::vector<double> wanted =
              DenseWeights(kernel, rows, layout.chunk_of, static_cast<int32_t>(t), GetParam());
          const float* const own =
              weights.weights.data() + static_cast<size_t>(t - segment.begin) * width;
          for (size_t s = 0; s < rows.size(); ++s) {
            double got = 0.0;
            for (size_t other = 0; other < propagation->chunks().size(); ++other) {
              const ChunkPropagation& source = propagation->chunks()[other];
              for (size_t i = 0; i < source.rows.size(); ++i) {
                if (source.rows[i] != rows[s]) continue;
                if (other == index) got += own[i];
                const bool is_in_g = GetParam() == PropagationMode::kTwoSided || other < index;
                const PropagationWeights& from = is_key ? source.key : source.value;
                if (is_in_g) got += own[width - 1] * from.u[i];
              }
            }
            EXPECT_NEAR(got, wanted[s], 1e-5)
                << "share=" << share << " t=" << t << " s=" << rows[s] << " key=" << is_key;
          }
        }
      }
    }
  }
}

TEST_P(PropagationTest, HeaderAndFirstChunkAreLeftAlone) {
  const Layout layout({9, 9, 9});
  const Prompt prompt = layout.Make();
  ThreadPool pool(1);
  const auto propagation =
      Propagation::Create(prompt, std::vector<int32_t>{16, 27}, GetParam(), &pool);
  ASSERT_TRUE(propagation.ok());
  ASSERT_EQ(propagation->chunks().size(), 2u);
  EXPECT_EQ(propagation->chunks()[0].segment, 2u);
  EXPECT_EQ(propagation->chunks()[0].rows, std::vector<int32_t>{16});
  EXPECT_EQ(propagation->chunks()[1].rows, std::vector<int32_t>{27});
}

INSTANTIATE_TEST_SUITE_P(Modes, PropagationTest,
                         ::testing::Values(PropagationMode::kTwoSided, PropagationMode::kCausal),
                         [](const auto& instance) {
                           return instance.param == PropagationMode::kCausal ? "Causal"
                                                                             : "TwoSided";
                         });

}  // namespace
}  // namespace intarsia::engine
