// Bound: that of int8_ops.cc. Design: a piece of work is some panels, which stay in the
// second-level cache, times a tile of rows; pieces that share panels follow each other.
#include <algorithm>
#include <utility>

#include <hwy/targets.h>

#include "base/first_error.h"
#include "base/rounding.h"
#include "kernels/int8_matrix.h"
#include "kernels/int8_ops.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kTileRows = 96;
// Of the second-level cache, for panels; the tile's rows need about as much.
constexpr int64_t kPanelBytesMax = int64_t{384} << 10;
// Rows that a thread quantises at a time.
constexpr int64_t kQuantizeRows = 16;

}  // namespace

bool HasFastInt8() {
#if HWY_ARCH_X86
  // AVX3_DL is the target of CPUs with AVX512_VNNI.
  return (hwy::SupportedTargets() & HWY_AVX3_DL) != 0 && __builtin_cpu_supports("amx-tile") == 0;
#else
  return false;
#endif
}

Result<std::unique_ptr<Int8Matrix>> Int8Matrix::Pack(int64_t num_outputs, int64_t num_inputs,
                                                     const ReadRows& read_rows, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckMatrixToPack(num_outputs, num_inputs, pool));
  std::unique_ptr<Int8Matrix> matrix(new Int8Matrix(num_outputs, num_inputs));
  const int64_t num_outputs_padded = matrix->num_panels() * kInt8PanelOutputs;
  const int64_t num_steps = num_outputs_padded * matrix->num_groups();
  INTARSIA_ASSIGN_OR_RETURN(
      matrix->codes_, AlignedArray<int8_t>::TryCreate(num_outputs_padded * matrix->row_bytes()));
  INTARSIA_ASSIGN_OR_RETURN(matrix->steps_, AlignedArray<float>::TryCreate(num_steps));
  INTARSIA_ASSIGN_OR_RETURN(matrix->offsets_, AlignedArray<int32_t>::TryCreate(num_steps));
  FirstError error(pool->num_threads());
  pool->ParallelFor(matrix->num_panels(), [&](int64_t panel, int worker) {
    error.Set(worker, matrix->PackPanel(panel, read_rows));
  });
  INTARSIA_RETURN_IF_ERROR(error.Get());
  return matrix;
}

Status Int8Matrix::PackPanel(int64_t panel, const ReadRows& read_rows) {
  const int64_t begin = panel * kInt8PanelOutputs;
  const int64_t count = std::min(kInt8PanelOutputs, num_outputs_ - begin);
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> rows,
                            AlignedArray<float>::TryCreate(count * num_inputs_));
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<uint8_t> row_codes,
                            AlignedArray<uint8_t>::TryCreate(row_bytes()));
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> row_steps,
                            AlignedArray<float>::TryCreate(num_groups()));
  INTARSIA_RETURN_IF_ERROR(read_rows(begin, begin + count, rows.data()));
  int8_t* const codes = codes_.data() + panel * row_bytes() * kInt8PanelOutputs;
  float* const steps = steps_.data() + panel * num_groups() * kInt8PanelOutputs;
  int32_t* const offsets = offsets_.data() + panel * num_groups() * kInt8PanelOutputs;
  std::fill_n(codes, row_bytes() * kInt8PanelOutputs, int8_t{0});
  std::fill_n(steps, num_groups() * kInt8PanelOutputs, 0.0F);
  std::fill_n(offsets, num_groups() * kInt8PanelOutputs, 0);
  for (int64_t output = 0; output < count; ++output) {
    Int8Quantize({.x = rows.data() + output * num_inputs_,
                  .num_inputs = num_inputs_,
                  .codes = row_codes.data(),
                  .steps = row_steps.data()});
    for (int64_t group = 0; group < num_groups(); ++group) {
      steps[group * kInt8PanelOutputs + output] = row_steps[group];
      const int64_t end = std::min((group + 1) * kInt8GroupInputs, row_bytes());
      int32_t sum = 0;
      for (int64_t k = group * kInt8GroupInputs; k < end; ++k) {
        const int32_t code = int32_t{row_codes[k]} - 128;
        codes[k / 4 * 4 * kInt8PanelOutputs + output * 4 + k % 4] = static_cast<int8_t>(code);
        sum += code;
      }
      offsets[group * kInt8PanelOutputs + output] = -128 * sum;
    }
  }
  return Status::Ok();
}

Status MatMul(const Int8Matrix& matrix, const MatMulParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckMatMul(params, pool));
  const int64_t num_rows = params.num_rows;
  const int64_t row_bytes = matrix.row_bytes();
  const int64_t num_groups = matrix.num_groups();
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<uint8_t> codes,
                            AlignedArray<uint8_t>::TryCreate(num_rows * row_bytes));
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> steps,
                            AlignedArray<float>::TryCreate(num_rows * num_groups));
  pool->ParallelFor(DivideUp(num_rows, kQuantizeRows), [&](int64_t item, int /*worker*/) {
    const int64_t end = std::min(num_rows, (item + 1) * kQuantizeRows);
    for (int64_t row = item * kQuantizeRows; row < end; ++row) {
      const int64_t first = row * matrix.num_inputs();
      Int8Quantize({.x = params.x == nullptr ? nullptr : params.x + first,
                    .x_bf16 = params.x_bf16 == nullptr ? nullptr : params.x_bf16 + first,
                    .num_inputs = matrix.num_inputs(),
                    .codes = codes.data() + row * row_bytes,
                    .steps = steps.data() + row * num_groups});
    }
  });
  const int64_t num_tiles = DivideUp(num_rows, kTileRows);
  // Enough pieces for the threads to share evenly.
  const int64_t pieces_wanted = DivideUp(int64_t{4} * pool->num_threads(), num_tiles);
  const int64_t panels_per_piece =
      std::max<int64_t>(1, std::min(kPanelBytesMax / (row_bytes * kInt8PanelOutputs),
                                    matrix.num_panels() / pieces_wanted));
  const int64_t num_pieces = DivideUp(matrix.num_panels(), panels_per_piece);
  pool->ParallelFor(num_pieces * num_tiles, [&](int64_t item, int /*worker*/) {
    const int64_t row = item % num_tiles * kTileRows;
    const int64_t first_panel = item / num_tiles * panels_per_piece;
    const int64_t last_panel = std::min(first_panel + panels_per_piece, matrix.num_panels());
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t output = panel * kInt8PanelOutputs;
      Int8MultiplyTile({.codes = codes.data() + row * row_bytes,
                        .steps = steps.data() + row * num_groups,
                        .num_rows = std::min(kTileRows, num_rows - row),
                        .row_bytes = row_bytes,
                        .num_groups = num_groups,
                        .panel_codes = matrix.codes(panel),
                        .panel_steps = matrix.steps(panel),
                        .panel_offsets = matrix.offsets(panel),
                        .bias = params.bias == nullptr ? nullptr : params.bias + output,
                        .num_outputs = std::min(kInt8PanelOutputs, matrix.num_outputs() - output),
                        .y = params.y + row * matrix.num_outputs() + output,
                        .y_stride = matrix.num_outputs()});
    }
  });
  return Status::Ok();
}

}  // namespace intarsia::kernels
