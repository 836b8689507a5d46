// Bound and design: none; this is the definition, bit by bit.
#include <cmath>
#include <string>
#include <vector>

#include "kernels/binary_row_scan.h"
#include "kernels/binary_scan_cuda.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kQueryPlanes = 4;

// What the planes of the query say, number by number.
std::vector<int8_t> QueryOf(const BinaryScanCudaParams& params) {
  const int64_t num_words = params.rows.num_words;
  std::vector<int8_t> query(static_cast<size_t>(num_words * 64));
  for (int64_t i = 0; i < std::ssize(query); ++i) {
    int q = 0;
    for (int64_t p = 0; p < kQueryPlanes; ++p) {
      const uint64_t word = params.query_planes[p * num_words + i / 64];
      q += (1 << p) * ((word >> (i % 64) & 1) != 0 ? 1 : -1);
    }
    query[static_cast<size_t>(i)] = static_cast<int8_t>(q);
  }
  return query;
}

}  // namespace

Status CheckBinaryScanCuda(const BinaryScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRows(params.rows));
  INTARSIA_RETURN_IF_ERROR(CheckProspectLists(params.lists));
  if (params.lists.num_queries != 1) {
    return Status(StatusCode::kInvalidArgument, "binary scan: it is of one query: num_queries=" +
                                                    std::to_string(params.lists.num_queries));
  }
  if (!(params.error_bound >= 0.0F) || std::isinf(params.error_bound)) {
    return Status(StatusCode::kInvalidArgument,
                  "binary scan: error bound out of range: " + std::to_string(params.error_bound));
  }
  if (params.query_planes == nullptr) {
    return Status(StatusCode::kInvalidArgument, "binary scan: null pointer");
  }
  return Status::Ok();
}

Status BinaryScanCudaReference(const BinaryScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryScanCuda(params));
  const std::vector<int8_t> query = QueryOf(params);
  BinaryRowScanReference({.rows = params.rows,
                          .filter = params.filter,
                          .query = query.data(),
                          .factors = {params.half_step, params.base, params.error_bound},
                          .index = 0,
                          .lists = params.lists});
  return Status::Ok();
}

}  // namespace intarsia::kernels
