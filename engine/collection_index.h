// CollectionIndex: what is kept in memory of one collection to search it by filters and vectors.
//
// Thread safety: whoever reads it holds `mutex` shared, whoever changes it holds it alone.
#pragma once

#include <shared_mutex>

#include "engine/row_index.h"
#include "engine/vector_index.h"

namespace intarsia::engine {

struct CollectionIndex {
  // As VectorIndex.
  CollectionIndex(const VectorIndexOptions& options, VectorFiles* files)
      : vectors(options, files) {}

  std::shared_mutex mutex;
  // Guarded by mutex.
  RowIndex rows;
  VectorIndex vectors;
};

}  // namespace intarsia::engine
