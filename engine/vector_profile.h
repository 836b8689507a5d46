// VectorProfile: how the vectors of one collection are best searched, as measured on them.
//
// It is derived data: kept with the database so that it is measured once, and measured again when
// the collection has grown far beyond what it was measured on, or when it cannot be read.
//
// Thread safety: plain values; the functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/search_costs.h"
#include "index/calibration.h"
#include "index/flat_index.h"
#include "index/row_set.h"
#include "storage/database.h"

namespace intarsia::engine {

struct VectorProfile {
  // Of the codes and their search.
  int32_t bits = 2;
  int32_t query_bits = 4;
  float error_bound = 1.9F;
  // Measured on the sample.
  double expected_recall = 0.0;  // recall@10 against the exact search
  int64_t num_sampled = 0;
  int64_t num_queries = 0;
  double bit_entropy_mean = 0.0;
  double bit_entropy_min = 0.0;
  double neighbour_information = 0.0;
  int64_t num_rows = 0;  // of the collection, then
  SearchRates rates;

  bool operator==(const VectorProfile&) const = default;
};

// Measures the vectors in `rows`, which are at least 32, on a sample of at most `num_sampled_max`.
Result<VectorProfile> MeasureProfile(const index::FlatIndex& flat, const index::RowSet& rows,
                                     int64_t num_sampled_max, ThreadPool* pool);

// The stored profile; nothing if there is none, or none that can be used.
std::optional<VectorProfile> LoadProfile(const storage::ReadView& view,
                                         storage::CollectionId collection, storage::ModelId model);
// Errors: those of Database::PutSetting.
Status SaveProfile(storage::Database* database, storage::CollectionId collection,
                   storage::ModelId model, const VectorProfile& profile);
// Forgets the profiles of a dropped collection. Errors: as SaveProfile.
Status RemoveProfiles(storage::Database* database, storage::CollectionId collection);

}  // namespace intarsia::engine
