#include "index/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/stopwatch.h"

namespace intarsia::index {
namespace {

constexpr int64_t kNeighbours = 10;
constexpr int64_t kSampleMin = 32;
// No narrower ones: among more vectors than the sample has, they find less than it promises.
constexpr std::array<float, 4> kErrorBounds = {1.5F, 1.9F, 2.5F, 3.0F};
constexpr int64_t kBuckets = 64;
// The number of vectors compared exactly grows with the collection, but slower than it: twice the
// vectors need this many times the comparisons. Measured on MiniLM embeddings.
constexpr double kRescoredGrowth = 1.4;
// Standard errors that the scan may be off which a graph is compared with: it misses nothing.
constexpr float kTruthErrorBound = 4.0F;

double EntropyOf(double p) {
  if (p <= 0.0 || p >= 1.0) return 0.0;
  return -p * std::log2(p) - (1.0 - p) * std::log2(1.0 - p);
}

// What the trials are compared with.
struct Truth {
  std::vector<int64_t> queries;                  // slots
  std::vector<std::vector<SearchHit>> expected;  // without the query itself
  double flat_ns_per_row = 0.0;
};

std::vector<SearchHit> WithoutSelf(std::vector<SearchHit> hits, uint64_t self) {
  std::erase_if(hits, [self](const SearchHit& hit) { return hit.id == self; });
  if (std::ssize(hits) > kNeighbours) hits.resize(static_cast<size_t>(kNeighbours));
  return hits;
}

Result<Truth> FindTruth(const FlatIndex& sample, const CalibrationOptions& options) {
  Truth truth;
  truth.queries = SampleRows(sample.size(), options.num_queries, options.seed);
  const Stopwatch stopwatch;
  for (const int64_t slot : truth.queries) {
    INTARSIA_ASSIGN_OR_RETURN(std::vector<SearchHit> hits,
                              sample.Search({.query = sample.row(slot), .k = kNeighbours + 1}));
    truth.expected.push_back(WithoutSelf(std::move(hits), sample.ids()[static_cast<size_t>(slot)]));
  }
  truth.flat_ns_per_row = 1e6 * stopwatch.milliseconds() /
                          static_cast<double>(sample.size() * std::ssize(truth.queries));
  return truth;
}

Result<CalibrationTrial> Try(const FlatIndex& sample, const BinaryIndex& codes, const Truth& truth,
                             const BinarySearchOptions& options, int64_t num_rows) {
  CalibrationTrial trial;
  trial.bits = codes.bits();
  trial.query_bits = options.query_bits;
  trial.error_bound = options.error_bound;
  int64_t num_found = 0;
  int64_t num_wanted = 0;
  double scan_ms = 0.0;
  double rescore_ms = 0.0;
  for (size_t i = 0; i < truth.queries.size(); ++i) {
    const int64_t slot = truth.queries[i];
    INTARSIA_ASSIGN_OR_RETURN(
        BinarySearchResult found,
        codes.Search(sample, {.query = sample.row(slot), .k = kNeighbours + 1}, options));
    scan_ms += found.scan_ms;
    rescore_ms += found.rescore_ms;
    trial.num_rescored += static_cast<double>(found.num_rescored);
    const auto hits = WithoutSelf(std::move(found.hits), sample.ids()[static_cast<size_t>(slot)]);
    num_wanted += std::ssize(truth.expected[i]);
    for (const SearchHit& hit : hits) {
      num_found += std::count(truth.expected[i].begin(), truth.expected[i].end(), hit);
    }
  }
  const auto num_queries = static_cast<double>(truth.queries.size());
  const auto num_sampled = static_cast<double>(sample.size());
  trial.recall = static_cast<double>(num_found) / static_cast<double>(num_wanted);
  trial.num_rescored /= num_queries;
  trial.scan_ns_per_row = 1e6 * scan_ms / (num_queries * num_sampled);
  trial.rescore_us = 1e3 * rescore_ms / num_queries;
  const double doublings = std::max(0.0, std::log2(static_cast<double>(num_rows) / num_sampled));
  trial.expected_us = 1e-3 * trial.scan_ns_per_row * static_cast<double>(num_rows) +
                      trial.rescore_us * std::pow(kRescoredGrowth, doublings);
  return trial;
}

// The cheapest that reaches the wanted recall, or else the one with the highest.
bool IsBetterTrial(const CalibrationTrial& a, const CalibrationTrial& b, double wanted) {
  const bool a_reaches = a.recall >= wanted;
  const bool b_reaches = b.recall >= wanted;
  if (a_reaches != b_reaches) return a_reaches;
  if (!a_reaches && a.recall != b.recall) return a.recall > b.recall;
  return a.expected_us < b.expected_us;
}

// I(neighbour; estimate) over H(neighbour), the estimates of each query in buckets of equal size.
Result<double> NeighbourInformation(const FlatIndex& sample, const BinaryIndex& codes,
                                    const Truth& truth) {
  std::array<double, kBuckets> neighbours{};
  double num_pairs = 0.0;
  double num_neighbours = 0.0;
  std::unordered_map<uint64_t, size_t> slots;
  for (const uint64_t id : sample.ids()) slots.emplace(id, slots.size());
  for (size_t i = 0; i < truth.queries.size(); ++i) {
    INTARSIA_ASSIGN_OR_RETURN(const BinaryIndex::Estimates estimates,
                              codes.EstimateAll(sample, sample.row(truth.queries[i]), 4));
    std::vector<float> sorted = estimates.scores;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (const SearchHit& hit : truth.expected[i]) {
      const float score = estimates.scores[slots.at(hit.id)];
      const auto rank =
          std::lower_bound(sorted.begin(), sorted.end(), score, std::greater<>()) - sorted.begin();
      neighbours[static_cast<size_t>(rank * kBuckets / sample.size())] += 1.0;
    }
    num_pairs += static_cast<double>(sample.size());
    num_neighbours += static_cast<double>(truth.expected[i].size());
  }
  const double entropy = EntropyOf(num_neighbours / num_pairs);
  if (entropy <= 0.0) return 0.0;
  double conditional = 0.0;
  for (const double count : neighbours) {
    conditional += EntropyOf(count * kBuckets / num_pairs) / kBuckets;
  }
  return std::clamp(1.0 - conditional / entropy, 0.0, 1.0);
}

}  // namespace

std::vector<int64_t> SampleRows(int64_t num_rows, int64_t num_max, uint64_t seed) {
  std::vector<int64_t> all(static_cast<size_t>(num_rows));
  std::iota(all.begin(), all.end(), 0);
  if (num_rows <= num_max) return all;
  std::vector<int64_t> rows;
  std::mt19937_64 random(seed);
  std::sample(all.begin(), all.end(), std::back_inserter(rows), num_max, random);
  return rows;
}

Result<Calibration> Calibrate(const FlatIndex& sample, const CalibrationOptions& options,
                              ThreadPool* pool) {
  if (sample.size() < kSampleMin || options.num_queries < 1 || options.num_rows < 0 ||
      !(options.recall_wanted >= 0.0 && options.recall_wanted <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  "calibration out of range: num_sampled=" + std::to_string(sample.size()) +
                      " num_queries=" + std::to_string(options.num_queries) +
                      " recall_wanted=" + std::to_string(options.recall_wanted));
  }
  INTARSIA_ASSIGN_OR_RETURN(const Truth truth, FindTruth(sample, options));
  Calibration calibration;
  calibration.num_sampled = sample.size();
  calibration.num_queries = std::ssize(truth.queries);
  calibration.flat_ns_per_row = truth.flat_ns_per_row;
  const int64_t num_rows = std::max(options.num_rows, sample.size());
  std::array<std::unique_ptr<BinaryIndex>, 3> codes;  // by bits
  for (const int32_t bits : {1, 2}) {
    auto& built = codes[static_cast<size_t>(bits)];
    INTARSIA_ASSIGN_OR_RETURN(
        built, BinaryIndex::Build(sample, {.bits = bits, .seed = options.seed}, pool));
    for (const int32_t query_bits : {4, 1}) {
      for (const float error_bound : kErrorBounds) {
        BinarySearchOptions search;
        search.error_bound = error_bound;
        search.query_bits = query_bits;
        INTARSIA_ASSIGN_OR_RETURN(const CalibrationTrial trial,
                                  Try(sample, *built, truth, search, num_rows));
        calibration.trials.push_back(trial);
        if (calibration.trials.size() == 1 ||
            IsBetterTrial(trial, calibration.chosen, options.recall_wanted)) {
          calibration.chosen = trial;
        }
      }
    }
  }
  const BinaryIndex& chosen = *codes[static_cast<size_t>(calibration.chosen.bits)];
  const std::vector<double> shares = chosen.SharesOfSetBits();
  calibration.bit_entropy_min = 1.0;
  for (const double share : shares) {
    const double entropy = EntropyOf(share);
    calibration.bit_entropy_mean += entropy / static_cast<double>(shares.size());
    calibration.bit_entropy_min = std::min(calibration.bit_entropy_min, entropy);
  }
  INTARSIA_ASSIGN_OR_RETURN(calibration.neighbour_information,
                            NeighbourInformation(sample, chosen, truth));
  return calibration;
}

Result<GraphMeasure> MeasureGraph(const GraphMeasureParams& params, ThreadPool* pool) {
  const FlatIndex& rows = *params.rows;
  std::vector<int64_t> slots;
  for (int64_t slot = 0; slot < std::min(rows.size(), params.graph->size()); ++slot) {
    const bool passes = params.filter.empty() ||
                        (params.filter[static_cast<size_t>(slot / 64)] >> (slot % 64) & 1) != 0;
    if (passes) slots.push_back(slot);
  }
  if (std::ssize(slots) < kSampleMin || params.num_queries < 1) {
    return Status(
        StatusCode::kInvalidArgument,
        "too few vectors to measure a graph: num_vectors=" + std::to_string(slots.size()) +
            " num_queries=" + std::to_string(params.num_queries));
  }
  std::vector<float> queries;
  std::vector<uint64_t> ids;
  for (const int64_t at : SampleRows(std::ssize(slots), params.num_queries, params.seed)) {
    const int64_t slot = slots[static_cast<size_t>(at)];
    const std::span<const float> row = rows.row(slot);
    queries.insert(queries.end(), row.begin(), row.end());
    ids.push_back(rows.ids()[static_cast<size_t>(slot)]);
  }
  const auto query_of = [&](size_t i) {
    const auto dim = static_cast<size_t>(rows.dim());
    return std::span<const float>(queries).subspan(i * dim, dim);
  };
  std::vector<std::vector<SearchHit>> expected(ids.size());
  if (params.codes != nullptr) {
    INTARSIA_ASSIGN_OR_RETURN(
        expected,
        params.codes->SearchBatch(
            rows, {.queries = queries, .k = kNeighbours + 1, .filter = params.filter, .pool = pool},
            {.error_bound = kTruthErrorBound}));
  }
  GraphMeasure measure;
  measure.num_queries = std::ssize(ids);
  int64_t num_found = 0;
  int64_t num_wanted = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const SearchParams search = {
        .query = query_of(i), .k = kNeighbours + 1, .filter = params.filter};
    if (params.codes == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(expected[i], rows.Search(search));
    }
    const Stopwatch stopwatch;
    INTARSIA_ASSIGN_OR_RETURN(GraphSearchResult found,
                              params.graph->Search(search, {.breadth = params.breadth}));
    measure.search_us += 1e3 * stopwatch.milliseconds() / static_cast<double>(ids.size());
    const std::vector<SearchHit> hits = WithoutSelf(std::move(found.hits), ids[i]);
    for (const SearchHit& hit : WithoutSelf(std::move(expected[i]), ids[i])) {
      ++num_wanted;
      num_found += std::count(hits.begin(), hits.end(), hit);
    }
  }
  measure.recall = static_cast<double>(num_found) / static_cast<double>(num_wanted);
  return measure;
}

}  // namespace intarsia::index
