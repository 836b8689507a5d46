// Bound and design: none; this is the definition, bit by bit.
#include <string>

#include "kernels/binary_scan.h"

namespace intarsia::kernels {
namespace {

// 1 for a set bit, -1 for a clear one.
int64_t SignOf(uint64_t word, int64_t bit) { return ((word >> bit) & 1) != 0 ? 1 : -1; }

int64_t ProductOf(const BinaryScanParams& params, int64_t block, int64_t code) {
  int64_t product = 0;
  for (int64_t w = 0; w < params.num_words; ++w) {
    const int64_t at = (block * params.num_words + w) * kBinaryBlockCodes + code;
    for (int64_t bit = 0; bit < 64; ++bit) {
      int64_t x = 0;
      for (int64_t j = 0; j < params.num_planes; ++j) {
        x += (int64_t{1} << j) * SignOf(params.planes[j][at], bit);
      }
      int64_t q = 0;
      for (int64_t p = 0; p < params.num_query_planes; ++p) {
        q += (int64_t{1} << p) * SignOf(params.query_planes[p * params.num_words + w], bit);
      }
      product += x * q;
    }
  }
  return product;
}

}  // namespace

Status CheckBinaryScan(const BinaryScanParams& params) {
  if (params.num_blocks < 0 || params.num_words < 1 || params.num_words > 1'024 ||
      params.num_planes < 1 || params.num_planes > 2 ||
      (params.num_query_planes != 1 && params.num_query_planes != 4)) {
    return Status(
        StatusCode::kInvalidArgument,
        "binary scan: size out of range: num_blocks=" + std::to_string(params.num_blocks) +
            " num_words=" + std::to_string(params.num_words) +
            " num_planes=" + std::to_string(params.num_planes) +
            " num_query_planes=" + std::to_string(params.num_query_planes));
  }
  if (params.num_blocks == 0) return Status::Ok();
  if (params.planes[0] == nullptr || (params.num_planes == 2 && params.planes[1] == nullptr) ||
      params.query_planes == nullptr || params.scales == nullptr || params.offsets == nullptr ||
      params.scores == nullptr || (params.survivors != nullptr && params.errors == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "binary scan: null pointer");
  }
  return Status::Ok();
}

Status BinaryScanReference(const BinaryScanParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryScan(params));
  for (int64_t block = 0; block < params.num_blocks; ++block) {
    for (int64_t code = 0; code < kBinaryBlockCodes; ++code) {
      const int64_t slot = block * kBinaryBlockCodes + code;
      const double product = static_cast<double>(ProductOf(params, block, code));
      const double score = params.scales[slot] * (params.half_step * product);
      params.scores[slot] = static_cast<float>(score + params.offsets[slot] + params.base);
      if (params.survivors == nullptr) continue;
      if (code == 0) params.survivors[block] = 0;
      const double limit =
          params.scores[slot] + static_cast<double>(params.error_bound) * params.errors[slot];
      if (limit >= params.threshold) {
        params.survivors[block] = static_cast<uint8_t>(params.survivors[block] | (1U << code));
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
