// BinaryIndex: one or two bits a dimension for each vector of a FlatIndex, scanned exhaustively.
//
// A vector o is kept as the signs (with two bits also the rough magnitudes) of R(o - c), where c is
// the mean of the collection and R a random rotation, and as three factors that turn a product of
// codes into an unbiased estimate of <q, o> with a known standard error. A query is kept at four
// bits, so a scan is XOR and popcount over bit planes; at one bit it is as fast as memory, and what
// it leaves is estimated again with the query in full. Vectors whose estimate could, within
// `error_bound` standard errors, reach the k best are compared exactly with the rows of the
// FlatIndex; so the result is that of FlatIndex::Search(), up to the probability of the bound.
// Centring is exact algebra on both sides, and filters apply inside the scan: neither the means of
// the data nor the selectivity of a filter changes the recall.
//
// The index is derived data: it follows the slots of its FlatIndex and can be rebuilt from it. Its
// codes may be kept in a file, see index/vector_file.h.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned_array.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "index/code_scanner.h"
#include "index/flat_index.h"
#include "index/prospect_list.h"
#include "kernels/binary_batch_scan.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {

struct BinaryIndexOptions {
  int32_t bits = 0;   // 1 or 2 a dimension; 0: 2 up to 512 dimensions, else 1
  uint64_t seed = 1;  // of the rotation
};

// What codes mean: with it and a vector anybody arrives at the same code.
struct BinaryCodeSpace {
  int64_t dim = 0;
  int32_t bits = 0;
  uint64_t seed = 0;
  int64_t num_fitted = 0;     // vectors that the centre was fitted to
  std::vector<float> center;  // [dim]

  bool operator==(const BinaryCodeSpace&) const = default;
};

struct BinarySearchOptions {
  // Standard errors that an estimate may be off before a true hit is missed. In [0, 100].
  float error_bound = 1.9F;
  // Of the query in the scan, 1 or 4.
  int32_t query_bits = 4;
  // At most this many vectors are compared exactly, those with the best prospects; at least k are.
  int64_t candidates_max = 20'000;
  // Has the codes of the index and scans them in the CPU's place; `query_bits` is then 4. May be
  // null.
  CodeScanner* scanner = nullptr;
};

// Many queries over the same rows.
struct BatchSearchParams {
  std::span<const float> queries = {};  // [num_queries, dim]
  int64_t k = 10;                       // in [1, 1,000,000]
  SlotFilter filter = {};               // of all queries; as in SearchParams
  ThreadPool* pool = nullptr;           // null: on the calling thread
};

struct BinarySearchResult {
  std::vector<SearchHit> hits;  // as FlatIndex::Search() returns them, with exact scores
  int64_t num_scanned = 0;      // vectors that passed the filter
  int64_t num_prospects = 0;    // of these, what the scan left
  int64_t num_rescored = 0;     // of the vectors, compared exactly
  bool is_truncated = false;    // candidates_max left some out that the bound would have kept
  double scan_ms = 0.0;
  double rescore_ms = 0.0;  // all that comes behind the scan
};

class BinaryIndex {
 public:
  // Fits centre and rotation to the vectors of `rows` and encodes them all. `pool` may be null.
  // Errors: kInvalidArgument if an option is out of its range or `rows` is empty; kCorruption if
  // vectors of `rows` are damaged; kResourceExhausted.
  static Result<std::unique_ptr<BinaryIndex>> Build(const FlatIndex& rows,
                                                    const BinaryIndexOptions& options,
                                                    ThreadPool* pool);
  // An index of no vectors with room for `num_rows`, for codes that are there already.
  // Errors: kInvalidArgument if the space is none: a size out of range, a centre that is not
  // finite; kResourceExhausted.
  static Result<std::unique_ptr<BinaryIndex>> Restore(const BinaryCodeSpace& space,
                                                      int64_t num_rows);
  // Appends codes of its space, for slots from size() on. `num_rows` is the number of vectors, the
  // others of the last block are none.
  // Errors: kInvalidArgument if the shape is another one, size() is not a number of whole blocks,
  // or a factor is not finite; kResourceExhausted.
  Status AppendBlocks(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows);

  BinaryCodeSpace space() const { return {dim_, bits_, seed_, num_fitted_, center_}; }
  // The blocks [begin, end) of codes, valid until the next change.
  kernels::BinaryCodeBlocks CodeBlocks(int64_t begin, int64_t end) const;

  int32_t bits() const { return bits_; }
  int64_t size() const { return num_rows_; }
  // How many vectors the centre was fitted to. Rebuild when size() has grown far beyond it.
  int64_t num_fitted() const { return num_fitted_; }
  int64_t memory_bytes() const;

  // Encodes the slots [size(), rows.size()) after FlatIndex::Add().
  // Errors: kInvalidArgument if `rows` has another dimension or fewer vectors; kCorruption;
  // kResourceExhausted.
  Status Append(const FlatIndex& rows, ThreadPool* pool);

  // Searches `rows`, with which this index is in step.
  // Errors: those of FlatIndex::Search(); kInvalidArgument if an option is out of its range or the
  // sizes of `rows`, the index and a scanner differ; those of CodeScanner::Scan.
  Result<BinarySearchResult> Search(const FlatIndex& rows, const SearchParams& params,
                                    const BinarySearchOptions& options) const;

  // Searches for many queries at once, with 8 bits of each: every code is unpacked once for dozens
  // of queries, so a query costs a fraction of a Search(). `query_bits` is not looked at. Returns
  // the hits of each query, as Search() would [num_queries]. Errors: as Search(); kInvalidArgument,
  // with the number of the query, if one cannot be compared.
  Result<std::vector<std::vector<SearchHit>>> SearchBatch(const FlatIndex& rows,
                                                          const BatchSearchParams& params,
                                                          const BinarySearchOptions& options) const;

  // Estimates <query, row> for all slots, and the standard error of each; for tests and
  // calibration. Errors: those of FlatIndex::PrepareQuery(); kInvalidArgument for `query_bits`.
  struct Estimates {
    std::vector<float> scores;           // [size()]
    std::vector<float> standard_errors;  // [size()]
  };
  Result<Estimates> EstimateAll(const FlatIndex& rows, std::span<const float> query,
                                int32_t query_bits) const;

  // For each bit of a code the share of vectors that have it set [bits() * padded dimensions].
  std::vector<double> SharesOfSetBits() const;

 private:
  // A query as the scan wants it.
  struct Query {
    std::vector<float> vector;     // as FlatIndex::PrepareQuery() returns it [dim_]
    std::vector<float> rotated;    // R(q - c) [num_bits_]
    std::vector<uint64_t> planes;  // of it, rounded [query_bits, num_bits_ / 64]
    int32_t num_planes = 4;
    float half_step = 0.0F;           // odd integers times this are R(q - c)
    float base = 0.0F;                // <q, c>
    float error_factor = 0.0F;        // an estimate's standard error is errors_[slot] times this
    float whole_error_factor = 0.0F;  // the same if the query is not rounded
  };

  // Queries of a batch as the scan wants them, in groups of 16.
  struct Batch;

  BinaryIndex() = default;
  void SetGeometry(int64_t dim, int32_t bits, uint64_t seed);
  void SetCenter(std::span<const float> center);
  // Errors: kResourceExhausted; it holds what it held then.
  Status Resize(int64_t num_rows);
  // Where word `word` of a slot's code lies in a plane.
  size_t WordAt(int64_t slot, int64_t word) const;
  void Encode(std::span<const float> row, int64_t slot, std::vector<float>* scratch);
  // Errors: those of Resize().
  Status EncodeFrom(const FlatIndex& rows, int64_t begin, ThreadPool* pool);
  // A query without its planes.
  Query RotateQuery(std::vector<float> vector) const;
  // What a standard error is by the factor of a query in full, if rounding takes away so much.
  float ErrorFactor(float whole_error_factor, double rounding_square) const;
  Query MakeQuery(std::vector<float> vector, int32_t query_bits) const;
  // Rounds `query->rotated` to planes. Returns the square of what rounding takes away.
  double RoundQuery(Query* query) const;
  kernels::BinaryScanParams ScanParams(const Query& query, int64_t block_begin,
                                       int64_t block_end) const;
  // Estimates all slots that pass the filter, and keeps those that may be among the k best.
  std::vector<Prospect> ScanAll(const Query& query, const SearchParams& params, float error_bound,
                                int64_t* num_scanned) const;
  // The same by a scanner. Sets is_truncated if it left some out.
  Result<std::vector<Prospect>> ScanElsewhere(const Query& query, const SearchParams& params,
                                              const BinarySearchOptions& options,
                                              BinarySearchResult* result) const;
  // Queries [begin, end) of a batch, rounded to 8 bits.
  Result<Batch> MakeBatch(const FlatIndex& rows, std::span<const float> queries, int64_t begin,
                          int64_t end) const;
  kernels::BinaryBatchScanParams BatchScanParams(const Batch& batch, int64_t block_begin,
                                                 int64_t block_end) const;
  // What ScanAll leaves, for each query of the batch.
  std::vector<std::vector<Prospect>> ScanBatch(const Batch& batch, const BatchSearchParams& params,
                                               float error_bound) const;
  // What is left of them when the query is not rounded.
  std::vector<Prospect> Refine(const Query& query, const std::vector<Prospect>& prospects,
                               int64_t k, float error_bound) const;
  static Status CheckQueryBits(int32_t query_bits);
  Status CheckSearch(const FlatIndex& rows, const SearchParams& params,
                     const BinarySearchOptions& options) const;

  // Immutable after construction.
  int64_t dim_ = 0;
  int64_t num_bits_ = 0;  // dimensions after padding: a multiple of 64
  int32_t bits_ = 1;
  uint64_t seed_ = 1;
  int64_t num_fitted_ = 0;
  std::vector<float> center_;          // [dim_]
  std::vector<float> rotation_signs_;  // [rounds, num_bits_], each 1 or -1
  double center_square_ = 0.0;         // <c, c>

  // Codes lie in blocks of 8 slots, see kernels/binary_scan.h; each plane apart. The factors, which
  // docs/kernels/binary_codes.md explains, are by slot and padded to whole blocks.
  int64_t num_rows_ = 0;
  AlignedArray<uint64_t> planes_[2];  // with room for more slots
  std::vector<float> scales_;         // |o - c|^2 / <x, R(o - c)>
  std::vector<float> offsets_;        // <c, o> - <c, c>
  std::vector<float> errors_;         // |o - c| * sqrt(1 / f^2 - 1), f the cosine of x and R(o - c)
};

}  // namespace intarsia::index
