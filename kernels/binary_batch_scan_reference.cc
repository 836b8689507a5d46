// Bound and design: none; this is the definition, bit by bit.
#include <string>

#include "kernels/binary_batch_scan.h"

namespace intarsia::kernels {
namespace {

// <x, q> of one code and one query, 0 to 15 of its group.
int64_t ProductOf(const BinaryBatchScanParams& params, int64_t slot, int64_t group, int64_t query) {
  int64_t product = 0;
  for (int64_t i = 0; i < params.num_words * 64; ++i) {
    const int64_t block = slot / kBinaryBlockCodes;
    const int64_t at =
        (block * params.num_words + i / 64) * kBinaryBlockCodes + slot % kBinaryBlockCodes;
    int64_t x = 0;
    for (int64_t j = 0; j < params.num_planes; ++j) {
      x += (int64_t{1} << j) * (((params.planes[j][at] >> (i % 64)) & 1) != 0 ? 1 : -1);
    }
    const int64_t step = group * params.num_words * 16 + i / 4;
    product += x * params.queries[(step * kBatchGroupQueries + query) * 4 + i % 4];
  }
  return product;
}

}  // namespace

Status CheckBinaryBatchScan(const BinaryBatchScanParams& params) {
  if (params.num_blocks < 0 || params.num_words < 1 || params.num_words > 1'024 ||
      params.num_planes < 1 || params.num_planes > 2 || params.num_groups < 0) {
    return Status(
        StatusCode::kInvalidArgument,
        "binary batch scan: size out of range: num_blocks=" + std::to_string(params.num_blocks) +
            " num_words=" + std::to_string(params.num_words) + " num_planes=" +
            std::to_string(params.num_planes) + " num_groups=" + std::to_string(params.num_groups));
  }
  if (params.num_blocks == 0 || params.num_groups == 0) return Status::Ok();
  if (params.planes[0] == nullptr || (params.num_planes == 2 && params.planes[1] == nullptr) ||
      params.scales == nullptr || params.offsets == nullptr || params.errors == nullptr ||
      params.queries == nullptr || params.steps == nullptr || params.bases == nullptr ||
      params.sums == nullptr || params.error_bounds == nullptr || params.thresholds == nullptr ||
      params.scores == nullptr || params.survivors == nullptr) {
    return Status(StatusCode::kInvalidArgument, "binary batch scan: null pointer");
  }
  return Status::Ok();
}

Status BinaryBatchScanReference(const BinaryBatchScanParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryBatchScan(params));
  for (int64_t slot = 0; slot < params.num_blocks * kBinaryBlockCodes; ++slot) {
    for (int64_t group = 0; group < params.num_groups; ++group) {
      uint32_t bits = 0;
      for (int64_t query = 0; query < kBatchGroupQueries; ++query) {
        const int64_t at = group * kBatchGroupQueries + query;
        const double score =
            params.scales[slot] *
                (params.steps[at] * static_cast<double>(ProductOf(params, slot, group, query))) +
            params.offsets[slot] + params.bases[at];
        const double limit =
            score + static_cast<double>(params.error_bounds[at]) * params.errors[slot];
        params.scores[slot * params.num_groups * kBatchGroupQueries + at] =
            static_cast<float>(score);
        if (limit >= params.thresholds[at]) bits |= 1U << query;
      }
      params.survivors[slot * params.num_groups + group] = static_cast<uint16_t>(bits);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
