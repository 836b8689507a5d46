// Bound: compute; size^3 / 3 FLOP for the factor, size^2 * num_columns for each solve.
// Design: blocks of kBlock rows. What a block takes from the rows before it (or after it, in the
// transposed solve) is one matrix product with all accumulators in registers; only the triangle on
// the diagonal is solved row by row. Columns go in panels, so that solved rows stay in the
// second-level cache.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/spd_solve.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/spd_solve_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F64 = hn::ScalableTag<double>;

constexpr int kRows = 6;
constexpr int kVectors = hn::MaxLanes(F64()) >= 8 ? 4 : 2;
constexpr int64_t kBlock = 36;  // rows solved together, a multiple of kRows
constexpr int64_t kPanelColumns = 128;

// target [num_rows, num_columns] -= a [num_rows, depth] x b [depth, num_columns]. Elements of `a`
// lie a_row_stride and a_depth_stride apart, so that it may be a transpose.
struct SubtractParams {
  const double* a = nullptr;
  int64_t a_row_stride = 0;
  int64_t a_depth_stride = 0;
  const double* b = nullptr;
  int64_t b_stride = 0;
  double* target = nullptr;
  int64_t target_stride = 0;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t depth = 0;
};

template <int kBlockRows, int kBlockVectors, class D>
HWY_INLINE void SubtractBlock(const SubtractParams& params, D d, int64_t row, int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  double* const target = params.target + row * params.target_stride + column;
  hn::Vec<D> sums[kBlockRows][kBlockVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) {
      sums[r][v] = hn::LoadU(d, target + r * params.target_stride + v * lanes);
    }
  }
  const double* HWY_RESTRICT a = params.a + row * params.a_row_stride;
  const double* HWY_RESTRICT b = params.b + column;
  const int64_t a_row_stride = params.a_row_stride;
  for (int64_t k = 0; k < params.depth; ++k) {
    hn::Vec<D> line[kBlockVectors];
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) line[v] = hn::LoadU(d, b + v * lanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kBlockRows; ++r) {
      const auto factor = hn::Set(d, a[r * a_row_stride]);
      HWY_UNROLL(8)
      for (int v = 0; v < kBlockVectors; ++v) {
        sums[r][v] = hn::NegMulAdd(factor, line[v], sums[r][v]);
      }
    }
    a += params.a_depth_stride;
    b += params.b_stride;
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) {
      hn::StoreU(sums[r][v], d, target + r * params.target_stride + v * lanes);
    }
  }
}

template <int kBlockVectors, class D>
HWY_INLINE void SubtractColumns(const SubtractParams& params, D d, int64_t column) {
  int64_t row = 0;
  for (; row + kRows <= params.num_rows; row += kRows) {
    SubtractBlock<kRows, kBlockVectors>(params, d, row, column);
  }
  for (; row < params.num_rows; ++row) SubtractBlock<1, kBlockVectors>(params, d, row, column);
}

void SubtractProduct(const SubtractParams& params) {
  if (params.depth == 0) return;
  const F64 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t column = 0;
  for (; column + kVectors * lanes <= params.num_columns; column += kVectors * lanes) {
    SubtractColumns<kVectors>(params, d, column);
  }
  for (; column + lanes <= params.num_columns; column += lanes) {
    SubtractColumns<1>(params, d, column);
  }
  for (; column < params.num_columns; ++column) {
    SubtractColumns<1>(params, hn::CappedTag<double, 1>(), column);
  }
}

// row[i] = (row[i]) * factor over a panel.
void ScaleRow(double factor, int64_t num_columns, double* row) {
  for (int64_t i = 0; i < num_columns; ++i) row[i] *= factor;
}

void SolveLowerPanel(const SquareMatrix& l, double* b, int64_t stride, int64_t num_columns) {
  for (int64_t begin = 0; begin < l.size; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, l.size);
    SubtractProduct({l.data + begin * l.stride, l.stride, 1, b, stride, b + begin * stride, stride,
                     end - begin, num_columns, begin});
    for (int64_t row = begin; row < end; ++row) {
      SubtractProduct({l.data + row * l.stride + begin, l.stride, 1, b + begin * stride, stride,
                       b + row * stride, stride, 1, num_columns, row - begin});
      ScaleRow(1.0 / l.data[row * l.stride + row], num_columns, b + row * stride);
    }
  }
}

void SolveLowerTransposedPanel(const SquareMatrix& l, double* b, int64_t stride,
                               int64_t num_columns) {
  const int64_t num_blocks = (l.size + kBlock - 1) / kBlock;
  for (int64_t block = num_blocks - 1; block >= 0; --block) {
    const int64_t begin = block * kBlock;
    const int64_t end = std::min(begin + kBlock, l.size);
    SubtractProduct({l.data + end * l.stride + begin, 1, l.stride, b + end * stride, stride,
                     b + begin * stride, stride, end - begin, num_columns, l.size - end});
    for (int64_t row = end - 1; row >= begin; --row) {
      SubtractProduct({l.data + (row + 1) * l.stride + row, 1, l.stride, b + (row + 1) * stride,
                       stride, b + row * stride, stride, 1, num_columns, end - row - 1});
      ScaleRow(1.0 / l.data[row * l.stride + row], num_columns, b + row * stride);
    }
  }
}

void SolvePanels(const SquareMatrix& l, const RightHandSides& b, bool is_transposed) {
  for (int64_t column = 0; column < b.num_columns; column += kPanelColumns) {
    const int64_t num_columns = std::min(kPanelColumns, b.num_columns - column);
    if (is_transposed) {
      SolveLowerTransposedPanel(l, b.data + column, b.stride, num_columns);
    } else {
      SolveLowerPanel(l, b.data + column, b.stride, num_columns);
    }
  }
}

// Factors the block on the diagonal and the rows below it, from which all columns before `begin`
// are already subtracted. Returns the row whose pivot is not above its share of `diagonal`, or -1.
int64_t FactorColumns(const SquareMatrix& a, int64_t begin, int64_t end,
                      const std::vector<double>& diagonal) {
  const double share_min = static_cast<double>(a.size) * std::numeric_limits<double>::epsilon();
  for (int64_t row = begin; row < a.size; ++row) {
    double* const line = a.data + row * a.stride;
    for (int64_t column = begin; column < std::min(row, end); ++column) {
      const double* const above = a.data + column * a.stride;
      double sum = line[column];
      for (int64_t k = begin; k < column; ++k) sum -= line[k] * above[k];
      line[column] = sum / above[column];
    }
    if (row >= end) continue;
    double pivot = line[row];
    for (int64_t k = begin; k < row; ++k) pivot -= line[k] * line[k];
    if (!(pivot > share_min * diagonal[static_cast<size_t>(row)]) || !std::isfinite(pivot)) {
      return row;
    }
    line[row] = std::sqrt(pivot);
  }
  return -1;
}

// Returns the row at which `a` turns out not to be positive definite, or -1.
int64_t Factor(const SquareMatrix& a) {
  std::vector<double> diagonal(static_cast<size_t>(a.size));
  for (int64_t i = 0; i < a.size; ++i) {
    diagonal[static_cast<size_t>(i)] = std::max(a.data[i * a.stride + i], 0.0);
  }
  // The rows of the block so far, transposed: [columns before, kBlock].
  std::vector<double> transposed(static_cast<size_t>(a.size * kBlock));
  for (int64_t begin = 0; begin < a.size; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, a.size);
    const int64_t width = end - begin;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = 0; k < begin; ++k) {
        transposed[static_cast<size_t>(k * kBlock + row - begin)] = a.data[row * a.stride + k];
      }
    }
    // The triangle is updated row by row, because nothing above the diagonal may be touched.
    for (int64_t row = begin; row < end; ++row) {
      SubtractProduct({a.data + row * a.stride, a.stride, 1, transposed.data(), kBlock,
                       a.data + row * a.stride + begin, a.stride, 1, row - begin + 1, begin});
    }
    SubtractProduct({a.data + end * a.stride, a.stride, 1, transposed.data(), kBlock,
                     a.data + end * a.stride + begin, a.stride, a.size - end, width, begin});
    if (const int64_t row = FactorColumns(a, begin, end, diagonal); row >= 0) return row;
  }
  return -1;
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(Factor);
HWY_EXPORT(SolvePanels);

namespace {

constexpr int64_t kSizeMax = int64_t{1} << 24;

Status CheckMatrix(const SquareMatrix& matrix) {
  if (matrix.size >= 0 && matrix.size <= kSizeMax && matrix.stride >= matrix.size &&
      (matrix.data != nullptr || matrix.size == 0)) {
    return Status::Ok();
  }
  return {StatusCode::kInvalidArgument,
          "linear system has a null matrix or a bad size: size=" + std::to_string(matrix.size) +
              " stride=" + std::to_string(matrix.stride)};
}

Status Solve(const SquareMatrix& l, const RightHandSides& b, bool is_transposed) {
  INTARSIA_RETURN_IF_ERROR(CheckMatrix(l));
  if (l.size == 0 || b.num_columns == 0) return Status::Ok();
  if (b.num_columns < 0 || b.stride < b.num_columns || b.data == nullptr) {
    return {StatusCode::kInvalidArgument, "right-hand sides are null or have a bad size: columns=" +
                                              std::to_string(b.num_columns) +
                                              " stride=" + std::to_string(b.stride)};
  }
  HWY_DYNAMIC_DISPATCH(SolvePanels)(l, b, is_transposed);
  return Status::Ok();
}

}  // namespace

Status Cholesky(const SquareMatrix& a) {
  INTARSIA_RETURN_IF_ERROR(CheckMatrix(a));
  const int64_t row = HWY_DYNAMIC_DISPATCH(Factor)(a);
  if (row < 0) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "matrix is not positive definite: row=" + std::to_string(row) +
              " size=" + std::to_string(a.size)};
}

Status SolveLower(const SquareMatrix& l, const RightHandSides& b) {
  return Solve(l, b, /*is_transposed=*/false);
}

Status SolveLowerTransposed(const SquareMatrix& l, const RightHandSides& b) {
  return Solve(l, b, /*is_transposed=*/true);
}

}  // namespace intarsia::kernels
#endif
