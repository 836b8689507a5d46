// Calibration: which codes and which error bound find the neighbours of a collection's own vectors
// at the least cost, measured on a sample.
//
// Vectors of the sample are the queries, each without itself. Every choice is compared with the
// exact search; of those that reach the wanted recall, the one whose search is expected to take
// least at the size of the whole collection is chosen. Beside it stand two measures of the codes
// themselves: the entropy of their bits, 1 for a bit that splits the vectors in halves, and how
// much of what there is to know about being a neighbour the estimated score tells.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "index/graph_index.h"

namespace intarsia::index {

struct CalibrationOptions {
  double recall_wanted = 0.998;  // of the 10 nearest, in [0, 1]
  int64_t num_queries = 64;      // at least 1; fewer if there are fewer vectors
  int64_t num_rows = 0;          // of the whole collection; 0: those of the sample
  uint64_t seed = 1;             // of the choice of queries and of the rotation
};

// One choice and how it did.
struct CalibrationTrial {
  int32_t bits = 0;
  int32_t query_bits = 0;
  float error_bound = 0.0F;
  double recall = 0.0;        // recall@10 against the exact search
  double num_rescored = 0.0;  // a query
  double scan_ns_per_row = 0.0;
  double rescore_us = 0.0;   // a query, refining included
  double expected_us = 0.0;  // a query over the whole collection, on one thread
};

struct Calibration {
  CalibrationTrial chosen;
  std::vector<CalibrationTrial> trials;
  int64_t num_sampled = 0;
  int64_t num_queries = 0;
  double flat_ns_per_row = 0.0;   // of the exact search, on one thread
  double bit_entropy_mean = 0.0;  // of the bits of the chosen codes, in [0, 1]
  double bit_entropy_min = 0.0;
  double neighbour_information = 0.0;  // in [0, 1]: 1 if the estimate decides who is a neighbour
};

// What a graph is measured on.
struct GraphMeasureParams {
  const FlatIndex* rows = nullptr;
  const BinaryIndex* codes = nullptr;  // of the same rows; null: they are compared one by one
  const GraphIndex* graph = nullptr;
  SlotFilter filter = {};  // slots that are there
  int64_t breadth = 128;   // as in GraphSearchOptions
  int64_t num_queries = 128;
  uint64_t seed = 1;
};

struct GraphMeasure {
  int64_t num_queries = 0;
  double recall = 0.0;     // recall@10 against the scan
  double search_us = 0.0;  // a query, on one thread
};

// Searches the graph for vectors of its own, each without itself, and a scan for all of them at
// once. Errors: kInvalidArgument if fewer than 32 slots pass, or what the searches return.
Result<GraphMeasure> MeasureGraph(const GraphMeasureParams& params, ThreadPool* pool);

// The rows of a sample of at most `num_max` among `num_rows`, ascending.
std::vector<int64_t> SampleRows(int64_t num_rows, int64_t num_max, uint64_t seed);

// `sample` holds vectors of the collection in no special order.
// Errors: kInvalidArgument if it has fewer than 32 vectors or an option is out of its range.
Result<Calibration> Calibrate(const FlatIndex& sample, const CalibrationOptions& options,
                              ThreadPool* pool);

}  // namespace intarsia::index
