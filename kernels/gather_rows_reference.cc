#include <cstring>
#include <string>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/gather_rows.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kSizeMax = int64_t{1} << 31;

bool IsSize(int64_t size, int64_t min) { return size >= min && size < kSizeMax; }

}  // namespace

Status CheckGatherRows(const GatherRowsParams& params) {
  if (!IsSize(params.num_rows, 0) || !IsSize(params.num_source_rows, 0) ||
      !IsSize(params.row_bytes, 4) || params.row_bytes % 4 != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "gather rows: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " num_source_rows=" + std::to_string(params.num_source_rows) +
                      " row_bytes=" + std::to_string(params.row_bytes));
  }
  if (params.num_rows == 0) return Status::Ok();
  const uintptr_t alignment = params.row_bytes % 16 == 0 ? 16 : 4;
  const auto is_usable = [&](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
  };
  if (!is_usable(params.source) || !is_usable(params.target) || params.rows == nullptr) {
    return Status(StatusCode::kInvalidArgument, "gather rows: null or misaligned pointer");
  }
  return Status::Ok();
}

Status GatherRowsReference(const GatherRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckGatherRows(params));
  for (int64_t i = 0; i < params.num_rows; ++i) {
    const int64_t row = params.rows[i];
    char* const target = static_cast<char*>(params.target) + i * params.row_bytes;
    const auto row_bytes = static_cast<size_t>(params.row_bytes);
    if (row < 0 || row >= params.num_source_rows) {
      std::memset(target, 0, row_bytes);
    } else {
      std::memcpy(target, static_cast<const char*>(params.source) + row * params.row_bytes,
                  row_bytes);
    }
  }
  return Status::Ok();
}

Status CheckEmbedRows(const EmbedRowsParams& params) {
  if (!IsSize(params.num_rows, 0) || !IsSize(params.vocab_size, 1) || !IsSize(params.dim, 1)) {
    return Status(StatusCode::kInvalidArgument,
                  "embed rows: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " vocab_size=" + std::to_string(params.vocab_size) +
                      " dim=" + std::to_string(params.dim));
  }
  if (params.dim % 8 != 0) {
    return Status(StatusCode::kUnsupported,
                  "embed rows: dim must be a multiple of 8: dim=" + std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.table) || !IsVectorAligned(params.hidden) ||
      params.tokens == nullptr) {
    return Status(StatusCode::kInvalidArgument, "embed rows: null or misaligned pointer");
  }
  return Status::Ok();
}

Status EmbedRowsReference(const EmbedRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckEmbedRows(params));
  for (int64_t i = 0; i < params.num_rows; ++i) {
    const int64_t token = params.tokens[i];
    const bool is_known = token >= 0 && token < params.vocab_size;
    for (int64_t column = 0; column < params.dim; ++column) {
      params.hidden[i * params.dim + column] =
          is_known ? Bf16ToF32(params.table[token * params.dim + column]) * params.scale : 0.0F;
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
