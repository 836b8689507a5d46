// FusionCostModel: what loading a cache and computing rows cost on this machine, as measured.
//
// A cache is worth loading only if that is faster than computing its tokens again, and while the
// load is the longer of the two, more rows can be recomputed at no cost: the ratio is
// max(r_min, the ratio at which recomputing hides loading) (CacheBlend, section 5.1). Both sides
// are averages over the requests of this process, the recent ones weighing more.
//
// Thread safety: thread-safe.
#pragma once

#include <cstdint>
#include <mutex>

namespace intarsia::engine {

class FusionCostModel {
 public:
  // Tells of `num_rows` rows computed over a prompt in `milliseconds`.
  void ObserveRows(int64_t num_rows, double milliseconds);
  // Tells of `num_bytes` loaded and verified in `milliseconds`.
  void ObserveLoad(int64_t num_bytes, double milliseconds);

  // Negative until something was observed.
  double PredictRowsMs(int64_t num_rows) const;
  double PredictLoadMs(int64_t num_bytes) const;

  // Whether a cache should be loaded. True until both sides were observed.
  bool IsWorthLoading(int64_t num_bytes, int64_t num_tokens) const;

  // The ratio to use for `num_tokens` cached tokens of `num_bytes`, at least `ratio_min` and at
  // most 1.
  double RatioFor(double ratio_min, int64_t num_bytes, int64_t num_tokens) const;

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  double ms_per_row_ = -1.0;
  double ms_per_byte_ = -1.0;
};

}  // namespace intarsia::engine
