// GraphIndex: a navigable graph (HNSW) over the vectors of a FlatIndex.
//
// A search walks from vector to vector and looks at a few hundred of them, however many there are;
// what it finds is approximate, and the fewer vectors pass a filter, the more of the walk is in
// vain. So it is for large collections and for filters that let much through, and everything else
// is for the scans. The graph holds links only: distances are computed from the rows of the
// FlatIndex, so the scores are exact.
//
// It is derived data, a cache of links between slots [0, size()): slots of removed vectors stay in
// it as places to pass through, and a filter leaves them out of results.
//
// Thread safety: concurrent const calls only.
// Lifetime: the FlatIndex must outlive it, and no slot below size() may change.
// Format: docs/formats/graph_index.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/flat_index.h"

namespace intarsia::index {

struct GraphIndexOptions {
  int32_t num_links = 16;       // a vector has up to twice as many on the lowest layer; in [2, 256]
  int32_t build_breadth = 100;  // vectors considered when one is added; in [1, 10,000]
};

struct GraphSearchOptions {
  // Vectors kept during the walk, at least k. It grows while too few of them pass the filter.
  int64_t breadth = 128;  // in [1, 1,000,000]
  int64_t breadth_max = 4'096;
};

struct GraphSearchResult {
  std::vector<SearchHit> hits;  // best first, as FlatIndex::Search() orders them
  int64_t breadth = 0;          // of the last walk
  bool is_short = false;        // more vectors may pass, but breadth_max did not find k
};

class GraphIndex {
 public:
  // Errors: kInvalidArgument if an option is out of its range.
  static Result<std::unique_ptr<GraphIndex>> Create(const FlatIndex* rows,
                                                    const GraphIndexOptions& options);
  ~GraphIndex();
  GraphIndex(const GraphIndex&) = delete;
  GraphIndex& operator=(const GraphIndex&) = delete;

  int64_t size() const;
  int64_t memory_bytes() const;

  // Adds the slots [size(), end). Takes about a millisecond a vector.
  // Errors: kInvalidArgument if there are no such slots; kResourceExhausted; kCorruption if vectors
  // are damaged: drop the graph.
  Status Append(int64_t end, int num_threads);

  // The k vectors with the highest inner product among those that the walk came across and that
  // pass the filter. Slots from size() on are not looked at.
  // Errors: those of FlatIndex::Search; kInvalidArgument for a breadth out of its range.
  Result<GraphSearchResult> Search(const SearchParams& params,
                                   const GraphSearchOptions& options) const;

  // The graph as bytes, with a digest of the ids and vectors of its slots.
  std::string Save() const;
  // Restores what Save() wrote for a FlatIndex whose first slots hold the same ids and vectors.
  // Errors: kCorruption for anything else: drop the bytes and build the graph anew.
  static Result<std::unique_ptr<GraphIndex>> Load(std::string_view bytes, const FlatIndex* rows);

 private:
  struct State;
  explicit GraphIndex(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace intarsia::index
