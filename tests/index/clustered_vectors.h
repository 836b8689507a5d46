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

// The clusters that vectors are drawn from.
class VectorClusters {
 public:
  VectorClusters(int64_t dim, std::mt19937* random, std::normal_distribution<float>* normal)
      : width_(static_cast<size_t>(dim)), spread_(width_), centers_(kClusters * width_) {
    // The variance of a direction falls with its index, as it does for embeddings.
    for (size_t i = 0; i < width_; ++i) spread_[i] = 1.0F / std::sqrt(1.0F + 0.05F * float(i));
    std::vector<float> mean(width_);
    for (size_t i = 0; i < width_; ++i) mean[i] = 0.7F * (*normal)(*random) * spread_[i];
    for (size_t i = 0; i < centers_.size(); ++i) {
      centers_[i] = mean[i % width_] + 0.7F * (*normal)(*random) * spread_[i % width_];
    }
  }

  // Fills `rows` [count, dim] with vectors.
  void Draw(std::span<float> rows, std::mt19937* random,
            std::normal_distribution<float>* normal) const {
    for (size_t begin = 0; begin < rows.size(); begin += width_) {
      const size_t cluster = (*random)() % kClusters;
      double square = 0.0;
      for (size_t i = 0; i < width_; ++i) {
        float& value = rows[begin + i];
        value = centers_[cluster * width_ + i] + (*normal)(*random) * spread_[i];
        square += static_cast<double>(value) * value;
      }
      const auto factor = static_cast<float>(1.0 / std::sqrt(square));
      for (size_t i = 0; i < width_; ++i) rows[begin + i] *= factor;
    }
  }

 private:
  static constexpr size_t kClusters = 50;

  size_t width_;
  std::vector<float> spread_;
  std::vector<float> centers_;
};

inline ClusteredVectors MakeClusteredVectors(int64_t num_rows, int64_t dim, int64_t num_queries,
                                             uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const VectorClusters clusters(dim, &random, &normal);
  ClusteredVectors vectors;
  vectors.dim = dim;
  vectors.num_queries = num_queries;
  vectors.rows.resize(static_cast<size_t>(num_rows * dim));
  clusters.Draw(vectors.rows, &random, &normal);
  vectors.queries.resize(static_cast<size_t>(num_queries * dim));
  clusters.Draw(vectors.queries, &random, &normal);
  vectors.ids.resize(static_cast<size_t>(num_rows));
  std::iota(vectors.ids.begin(), vectors.ids.end(), uint64_t{1'000'000'000'000});
  std::shuffle(vectors.ids.begin(), vectors.ids.end(), random);
  return vectors;
}

}  // namespace intarsia::index
