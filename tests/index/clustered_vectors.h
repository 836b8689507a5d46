// ClusteredVectors: random vectors that look like embeddings: a common mean, clusters, few strong
// directions, unit length.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace intarsia::index {

struct ClusteredVectors {
  int64_t dim = 0;
  std::vector<uint64_t> ids;   // shuffled, so that ids and slots differ
  std::vector<float> rows;     // [ids.size(), dim]
  std::vector<float> queries;  // [num_queries, dim], from the same clusters
  int64_t num_queries = 0;

  std::span<const float> query(int64_t i) const {
    return std::span(queries).subspan(static_cast<size_t>(i * dim), static_cast<size_t>(dim));
  }
};

inline ClusteredVectors MakeClusteredVectors(int64_t num_rows, int64_t dim, int64_t num_queries,
                                             uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto width = static_cast<size_t>(dim);
  constexpr size_t kClusters = 50;
  // The variance of a direction falls with its index, as it does for embeddings.
  std::vector<float> spread(width);
  for (size_t i = 0; i < width; ++i) spread[i] = 1.0F / std::sqrt(1.0F + 0.05F * float(i));
  std::vector<float> mean(width);
  for (size_t i = 0; i < width; ++i) mean[i] = 0.7F * normal(random) * spread[i];
  std::vector<float> centers(kClusters * width);
  for (size_t i = 0; i < centers.size(); ++i) {
    centers[i] = mean[i % width] + 0.7F * normal(random) * spread[i % width];
  }
  const auto fill = [&](int64_t count, std::vector<float>* target) {
    target->resize(static_cast<size_t>(count) * width);
    for (size_t row = 0; row < static_cast<size_t>(count); ++row) {
      const size_t cluster = random() % kClusters;
      double square = 0.0;
      for (size_t i = 0; i < width; ++i) {
        float& value = (*target)[row * width + i];
        value = centers[cluster * width + i] + normal(random) * spread[i];
        square += static_cast<double>(value) * value;
      }
      const auto factor = static_cast<float>(1.0 / std::sqrt(square));
      for (size_t i = 0; i < width; ++i) (*target)[row * width + i] *= factor;
    }
  };
  ClusteredVectors vectors;
  vectors.dim = dim;
  vectors.num_queries = num_queries;
  fill(num_rows, &vectors.rows);
  fill(num_queries, &vectors.queries);
  vectors.ids.resize(static_cast<size_t>(num_rows));
  std::iota(vectors.ids.begin(), vectors.ids.end(), uint64_t{1'000'000'000'000});
  std::shuffle(vectors.ids.begin(), vectors.ids.end(), random);
  return vectors;
}

}  // namespace intarsia::index
