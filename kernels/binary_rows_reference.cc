// Bound and design: none; this is the definition.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/binary_rows.h"

namespace intarsia::kernels {

BinaryRows BinaryRowsParams::rows() const {
  BinaryRows rows;
  rows.codes = codes;
  rows.scales = scales;
  rows.offsets = offsets;
  rows.errors = errors;
  rows.bounds = bounds;
  rows.num_rows = num_rows;
  rows.num_words = num_words;
  rows.num_planes = num_planes;
  return rows;
}

Status CheckBinaryRows(const BinaryRows& rows) {
  if (rows.num_rows < 0 || rows.num_rows > kBinaryRowsMax || rows.num_words < 1 ||
      rows.num_words > 1'024 || rows.num_planes < 1 || rows.num_planes > 2) {
    return Status(StatusCode::kInvalidArgument,
                  "binary rows: size out of range: num_rows=" + std::to_string(rows.num_rows) +
                      " num_words=" + std::to_string(rows.num_words) +
                      " num_planes=" + std::to_string(rows.num_planes));
  }
  if (rows.num_rows > 0 &&
      (rows.codes == nullptr || rows.scales == nullptr || rows.offsets == nullptr ||
       rows.errors == nullptr || rows.bounds == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "binary rows: null pointer");
  }
  return Status::Ok();
}

Status CheckBinaryRowsParams(const BinaryRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRows(params.rows()));
  if (params.num_rows > params.num_blocks * kBinaryBlockCodes) {
    return Status(
        StatusCode::kInvalidArgument,
        "binary rows: more rows than the blocks hold: num_rows=" + std::to_string(params.num_rows) +
            " num_blocks=" + std::to_string(params.num_blocks));
  }
  if (params.num_rows > 0 &&
      (params.planes[0] == nullptr || (params.num_planes == 2 && params.planes[1] == nullptr))) {
    return Status(StatusCode::kInvalidArgument, "binary rows: null pointer");
  }
  return Status::Ok();
}

Status BinaryRowsReference(const BinaryRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRowsParams(params));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const BinaryRows rows = params.rows();
  const int64_t plane_words = rows.plane_pieces() * 4;
  std::fill_n(params.codes, rows.code_bytes() / 4, 0U);
  for (int64_t tile = 0; tile < rows.num_tiles(); ++tile) {
    BinaryTileBounds bounds{kInfinity, -kInfinity, -kInfinity, -kInfinity};
    const int64_t end = std::min(rows.num_rows, (tile + 1) * kBinaryTileRows);
    for (int64_t row = tile * kBinaryTileRows; row < end; ++row) {
      // The comparison is false for what is not a number.
      if (params.scales[row] < bounds.scale_min) bounds.scale_min = params.scales[row];
      if (params.scales[row] > bounds.scale_max) bounds.scale_max = params.scales[row];
      if (params.offsets[row] > bounds.offset_max) bounds.offset_max = params.offsets[row];
      if (params.errors[row] > bounds.error_max) bounds.error_max = params.errors[row];
      for (int64_t plane = 0; plane < rows.num_planes; ++plane) {
        uint32_t* const target = params.codes + row * rows.row_words() + plane * plane_words;
        for (int64_t w = 0; w < rows.num_words; ++w) {
          const uint64_t word =
              params.planes[plane]
                           [(row / kBinaryBlockCodes * rows.num_words + w) * kBinaryBlockCodes +
                            row % kBinaryBlockCodes];
          target[2 * w] = static_cast<uint32_t>(word);
          target[2 * w + 1] = static_cast<uint32_t>(word >> 32);
        }
      }
    }
    params.bounds[tile] = bounds;
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
