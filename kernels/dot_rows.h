// DotRows: inner products of one query with the rows of a matrix; the distance of a vector search.
//
// A row's result depends on the query and that row alone: the same bits whether all rows are
// compared or only some, in one call or in many.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

struct DotRowsParams {
  const float* query = nullptr;  // [dim]
  const float* rows = nullptr;   // row i begins at rows + i * dim
  // [num_rows], where each row begins; null: they follow each other from `rows` on, else that is
  // not looked at.
  const float* const* row_pointers = nullptr;
  int64_t num_rows = 0;
  int64_t dim = 0;          // at least 1
  float* scores = nullptr;  // [num_rows], not aliasing the inputs
};

// scores[i] = sum over d of query[d] * row_i[d]. NaN and infinities follow IEEE arithmetic.
// Errors: kInvalidArgument for a null pointer or a size out of range.
Status DotRows(const DotRowsParams& params);

// The definition: double accumulation.
Status DotRowsReference(const DotRowsParams& params);

}  // namespace intarsia::kernels
