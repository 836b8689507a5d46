// PropagationCase and PropagationData: chunks with recomputed rows, for the tests of
// PropagationWeights and MeasureShift.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/propagation_weights.h"

namespace intarsia::kernels {

struct PropagationCase {
  std::string name;
  std::vector<int32_t> chunk_tokens;
  std::vector<int32_t> chunk_rows;

  int64_t num_tokens() const {
    return std::accumulate(chunk_tokens.begin(), chunk_tokens.end(), int64_t{0});
  }
};

inline std::vector<PropagationCase> PropagationCases() {
  return {
      {"OneTokenOneRow", {1}, {1}},       {"OneRow", {200}, {1}},
      {"NoRowsAtAll", {40, 33}, {0, 0}},  {"OddSizes", {33, 1, 64, 31, 257}, {5, 1, 0, 31, 16}},
      {"AllRows", {70, 20}, {70, 20}},    {"AsServed", {520, 480, 511}, {78, 72, 80}},
      {"ManyRows", {400, 90}, {300, 15}}, {"MoreRowsThanSharedMemoryHolds", {1100}, {950}},
  };
}

// Parameters like those of engine/fusion/propagation.h.
inline constexpr ShiftKernel kTestKeyKernel = {
    .a = .15f, .t1 = 10, .b = .15f, .t2 = 100, .c = .25f, .c0 = .15f, .noise = .3f};
inline constexpr ShiftKernel kTestValueKernel = {
    .a = .2f, .t1 = 4, .b = .1f, .t2 = 30, .c = .12f, .c0 = .08f, .noise = .5f};

struct PropagationData {
  explicit PropagationData(const PropagationCase& test_case) {
    std::vector<int32_t> segments(test_case.chunk_tokens.size());
    std::iota(segments.begin(), segments.end(), 0);
    INTARSIA_CHECK(
        MakePropagationLayout(segments, test_case.chunk_tokens, test_case.chunk_rows, &layout)
            .ok());
    std::mt19937 generator(17);
    for (const PropagationChunk& chunk : layout.chunks) {
      std::vector<int32_t> tokens(static_cast<size_t>(chunk.num_tokens));
      std::iota(tokens.begin(), tokens.end(), 0);
      std::shuffle(tokens.begin(), tokens.end(), generator);
      tokens.resize(static_cast<size_t>(chunk.num_rows));
      std::sort(tokens.begin(), tokens.end());
      rows.insert(rows.end(), tokens.begin(), tokens.end());
    }
    if (rows.empty()) rows.push_back(0);  // so that there is an array
  }

  // Everything but pointers.
  PropagationWeightsParams Params(PropagationOrder order) const {
    PropagationWeightsParams params;
    params.key = kTestKeyKernel;
    params.value = kTestValueKernel;
    params.order = order;
    params.num_chunks = static_cast<int32_t>(layout.chunks.size());
    params.num_tiles = static_cast<int32_t>(layout.tiles.size());
    params.num_rows_max = layout.num_rows_max;
    params.num_rows = layout.num_rows;
    params.num_factors = layout.num_factors;
    return params;
  }

  PropagationLayout layout;
  std::vector<int32_t> rows;
};

struct SolvedWeights {
  std::vector<uint16_t> key_weights;
  std::vector<uint16_t> value_weights;
  std::vector<float> key_u;
  std::vector<float> value_u;
};

inline SolvedWeights SolveByReference(const PropagationData& data, PropagationOrder order) {
  SolvedWeights solved;
  solved.key_weights.resize(static_cast<size_t>(data.layout.num_weights));
  solved.value_weights.resize(solved.key_weights.size());
  solved.key_u.resize(data.rows.size());
  solved.value_u.resize(data.rows.size());
  std::vector<float> workspace(1);
  PropagationWeightsParams params = data.Params(order);
  params.chunks = data.layout.chunks.data();
  params.tiles = data.layout.tiles.data();
  params.rows = data.rows.data();
  params.key_weights = solved.key_weights.data();
  params.value_weights = solved.value_weights.data();
  params.key_u = solved.key_u.data();
  params.value_u = solved.value_u.data();
  params.workspace = workspace.data();
  INTARSIA_CHECK(PropagationWeightsReference(params).ok());
  return solved;
}

}  // namespace intarsia::kernels
