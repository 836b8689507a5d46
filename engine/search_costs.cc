#include "engine/search_costs.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace intarsia::engine {
namespace {

// How fast one core reads memory if nothing was measured yet.
constexpr double kBytesPerNs = 16.0;
// The same of a device, and what it takes to ask one at all.
constexpr double kDeviceBytesPerNs = 1'000.0;
constexpr double kDeviceAskedUs = 60.0;
// A new figure counts this much against what was known.
constexpr double kWeight = 0.2;
// Fewer rows say more about the clock than about the rows.
constexpr int64_t kRowsMin = 256;
// Codes lie in blocks of this many, and a scan reads whole blocks.
constexpr double kBlockRows = 8.0;

void MoveTowards(double value, double* rate) { *rate += kWeight * (value - *rate); }

// Rows in blocks of which some row passes a filter that lets rows through at random.
double RowsTouched(const SearchWork& work) {
  const auto num_rows = static_cast<double>(work.num_rows);
  if (num_rows <= 0.0) return 0.0;
  const double share = static_cast<double>(work.num_passing) / num_rows;
  return num_rows * (1.0 - std::pow(1.0 - std::min(1.0, share), kBlockRows));
}

// What a walk must keep so that k of what it keeps pass the filter.
double BreadthFor(const SearchWork& work) {
  const double share = static_cast<double>(work.num_passing) /
                       static_cast<double>(std::max<int64_t>(1, work.num_rows));
  const double wanted =
      std::max(static_cast<double>(kGraphBreadth) / 4.0, static_cast<double>(work.k));
  return std::max(static_cast<double>(kGraphBreadth), share > 0.0 ? wanted / share : 1e18);
}

}  // namespace

std::string_view AccessPathName(AccessPath path) {
  switch (path) {
    case AccessPath::kFlat:
      return "flat scan";
    case AccessPath::kBinary:
      return "binary scan";
    case AccessPath::kGraph:
      return "graph";
    case AccessPath::kDevice:
      return "device scan";
  }
  return "";
}

void SearchCosts::Reset(int64_t dim, int64_t bits) {
  const std::scoped_lock lock(mutex_);
  rates_.flat_ns_per_row = static_cast<double>(dim) * sizeof(float) / kBytesPerNs;
  rates_.scan_ns_per_row = static_cast<double>(dim * std::max<int64_t>(1, bits)) / 8 / kBytesPerNs;
  rates_.rescore_us = 100.0;
  rates_.graph_us = 1'000.0;
  device_ns_per_row_ = 0.0;
}

void SearchCosts::Set(const SearchRates& rates) {
  const std::scoped_lock lock(mutex_);
  rates_ = rates;
}

SearchRates SearchCosts::rates() const {
  const std::scoped_lock lock(mutex_);
  return rates_;
}

std::array<double, kNumAccessPaths> SearchCosts::Predict(const SearchWork& work) const {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const std::scoped_lock lock(mutex_);
  std::array<double, kNumAccessPaths> ms = {kNever, kNever, kNever, kNever};
  ms[IndexOf(AccessPath::kFlat)] =
      1e-6 * rates_.flat_ns_per_row * static_cast<double>(work.num_passing);
  if (work.has_codes) {
    ms[IndexOf(AccessPath::kBinary)] =
        1e-6 * rates_.scan_ns_per_row * RowsTouched(work) + 1e-3 * rates_.rescore_us;
  }
  const double breadth = BreadthFor(work);
  if (work.num_in_graph > 0 && breadth <= static_cast<double>(kGraphBreadthMax)) {
    const double rest = static_cast<double>(work.num_rows - work.num_in_graph);
    ms[IndexOf(AccessPath::kGraph)] =
        1e-3 * rates_.graph_us * breadth / static_cast<double>(kGraphBreadth) +
        1e-6 * rates_.flat_ns_per_row * rest;
  }
  if (work.has_codes && work.device_row_bytes > 0) {
    const double estimate = static_cast<double>(work.device_row_bytes) / kDeviceBytesPerNs;
    const double rate = device_ns_per_row_ > 0.0 ? device_ns_per_row_ : estimate;
    ms[IndexOf(AccessPath::kDevice)] = 1e-6 * rate * static_cast<double>(work.num_rows) +
                                       1e-3 * (kDeviceAskedUs + rates_.rescore_us);
  }
  return ms;
}

void SearchCosts::ObserveFlat(const SearchWork& work, double search_ms) {
  if (work.num_passing < kRowsMin) return;
  const std::scoped_lock lock(mutex_);
  MoveTowards(1e6 * search_ms / static_cast<double>(work.num_passing), &rates_.flat_ns_per_row);
}

void SearchCosts::ObserveBinary(const SearchWork& work, double scan_ms, double rescore_ms) {
  const double rows = RowsTouched(work);
  const std::scoped_lock lock(mutex_);
  if (rows >= static_cast<double>(kRowsMin)) {
    MoveTowards(1e6 * scan_ms / rows, &rates_.scan_ns_per_row);
  }
  MoveTowards(1e3 * rescore_ms, &rates_.rescore_us);
}

void SearchCosts::ObserveGraph(int64_t breadth, double search_ms) {
  if (breadth < 1) return;
  const std::scoped_lock lock(mutex_);
  MoveTowards(1e3 * search_ms * static_cast<double>(kGraphBreadth) / static_cast<double>(breadth),
              &rates_.graph_us);
}

void SearchCosts::ObserveDevice(const SearchWork& work, double scan_ms, double rescore_ms) {
  if (work.num_rows < kRowsMin) return;
  const double rate =
      std::max(0.0, 1e6 * scan_ms - 1e3 * kDeviceAskedUs) / static_cast<double>(work.num_rows);
  const std::scoped_lock lock(mutex_);
  // The first figure is worth more than the estimate.
  if (device_ns_per_row_ == 0.0) device_ns_per_row_ = rate;
  MoveTowards(rate, &device_ns_per_row_);
  MoveTowards(1e3 * rescore_ms, &rates_.rescore_us);
}

}  // namespace intarsia::engine
