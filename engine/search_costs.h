// SearchCosts: what each way to search the vectors of one collection costs on this machine.
//
// The figures begin as estimates from the size of a vector, are replaced by what calibration
// measured, and follow what searches took since. The planner takes the way with the lowest
// prediction, and EXPLAIN shows all of them.
//
// Thread safety: thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace intarsia::engine {

// kDevice is the binary scan on a device.
enum class AccessPath : uint8_t { kFlat, kBinary, kGraph, kDevice };
inline constexpr int64_t kNumAccessPaths = 4;
// Its place in arrays of kNumAccessPaths.
constexpr size_t IndexOf(AccessPath path) { return static_cast<size_t>(path); }

// For example "binary scan".
std::string_view AccessPathName(AccessPath path);

// What there is to search.
struct SearchWork {
  int64_t num_rows = 0;     // rows that a scan passes over
  int64_t num_passing = 0;  // of these, rows that pass the filter
  int64_t k = 10;
  bool has_codes = false;
  int64_t num_in_graph = 0;  // rows from the first on; the others are compared one by one
  // Bytes of a row's code on a device; 0: a device cannot be asked.
  int64_t device_row_bytes = 0;
};

struct SearchRates {
  double flat_ns_per_row = 0.0;  // that passes the filter
  double scan_ns_per_row = 0.0;  // of a block that some row passes in
  double rescore_us = 0.0;       // a search, behind the scan
  double graph_us = 0.0;         // a search of kGraphBreadth

  bool operator==(const SearchRates&) const = default;
};

// Vectors that a walk through the graph keeps when nothing is filtered, and at most.
inline constexpr int64_t kGraphBreadth = 128;
inline constexpr int64_t kGraphBreadthMax = 4'096;

class SearchCosts {
 public:
  SearchCosts() = default;

  // Estimates for vectors of `dim` dimensions with codes of `bits`.
  void Reset(int64_t dim, int64_t bits);
  void Set(const SearchRates& rates);
  SearchRates rates() const;

  // Milliseconds by each path; infinity where there is no such way.
  std::array<double, kNumAccessPaths> Predict(const SearchWork& work) const;

  // Takes a search into account that took `search_ms`, of which the scan `scan_ms`.
  void ObserveFlat(const SearchWork& work, double search_ms);
  void ObserveBinary(const SearchWork& work, double scan_ms, double rescore_ms);
  void ObserveGraph(int64_t breadth, double search_ms);
  void ObserveDevice(const SearchWork& work, double scan_ms, double rescore_ms);

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  SearchRates rates_;
  double device_ns_per_row_ = 0.0;  // of all rows; 0: not known. Is of this process's device.
};

}  // namespace intarsia::engine
