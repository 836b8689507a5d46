// Bound and design: none; this is the definition, bit by bit.
#include <utility>
#include <vector>

#include "kernels/binary_row_scan.h"

namespace intarsia::kernels {
namespace {

int64_t ProductOf(const BinaryRows& rows, int64_t row, const int8_t* query) {
  const uint32_t* const code = rows.codes + row * rows.row_words();
  int64_t product = 0;
  for (int64_t i = 0; i < rows.num_words * 64; ++i) {
    int64_t x = 0;
    for (int64_t j = 0; j < rows.num_planes; ++j) {
      const uint32_t word = code[j * rows.plane_pieces() * 4 + i / 32];
      x += (int64_t{1} << j) * ((word >> (i % 32) & 1) != 0 ? 1 : -1);
    }
    product += x * query[i];
  }
  return product;
}

}  // namespace

void BinaryRowScanReference(const BinaryRowScanParams& params) {
  const BinaryRows& rows = params.rows;
  const BinaryQueryFactors& query = params.factors;
  std::vector<ProspectInterval> intervals;
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    if (params.filter != nullptr &&
        (params.filter[row / kBinaryTileRows] >> (row % kBinaryTileRows) & 1) == 0) {
      continue;
    }
    const BinaryFactors factors{rows.scales[row], rows.offsets[row], rows.errors[row]};
    const float score =
        BinaryScoreOf(factors, query, static_cast<float>(ProductOf(rows, row, params.query)));
    intervals.push_back({static_cast<int32_t>(row), BinaryLowerOf(factors, query, score),
                         BinaryLimitOf(factors, query, score)});
  }
  KeepProspectsReference(std::move(intervals), params.index, params.lists);
}

}  // namespace intarsia::kernels
