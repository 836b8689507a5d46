// MatMul of packed matrices.
//
// Bound: compute; 2 * num_rows * num_inputs * num_outputs FLOP at the peak of bf16 or f32.
// Design: oneDNN's brgemm reaches the peak on one thread from 8 rows on if its output has no gaps,
// so full tiles of rows span all outputs, and what is left is cut by outputs as well and copied.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/first_error.h"
#include "base/rounding.h"
#include "kernels/convert.h"
#include "kernels/packed_matrix.h"
#include "kernels/packed_matrix_state.h"

namespace intarsia::kernels {
namespace {

using dnnl::memory;

// Heights of the other tiles are multiples of it, so that oneDNN generates code for a few only.
constexpr int64_t kRowsRounding = 16;
// [kMatMulTileRows, kSliceOutputsMax] of f32 stays in the second-level cache until it is copied.
constexpr int64_t kSliceOutputsMax = 512;
constexpr int64_t kAlignment = AlignedArray<uint8_t>::kAlignment;

// A part of the product: some rows and some outputs, done by one thread.
struct Tile {
  int64_t row_begin = 0;
  int64_t num_rows = 0;     // rows of y
  int64_t padded_rows = 0;  // rows multiplied
  int64_t output_begin = 0;
  int64_t num_outputs = 0;
  const CompiledProduct* product = nullptr;
  const uint8_t* x = nullptr;  // [padded_rows, num_inputs] in the compute type; null: convert
};

// The rows that are not in full tiles, cut into `count` strips of equal height.
struct Strips {
  int64_t row_begin = 0;
  int64_t num_rows = 0;
  int64_t count = 0;
  int64_t height = 0;      // a multiple of kRowsRounding
  int64_t num_slices = 0;  // of the outputs
};

Strips CutStrips(const PackedMatrix::State& state, int64_t num_rows, int64_t num_threads) {
  int64_t num_full = num_rows / kMatMulTileRows;
  // With few tiles, an odd one would leave threads idle; its rows are cut by outputs instead.
  if (num_full < 8 * num_threads) num_full -= num_full % num_threads;
  Strips strips;
  strips.row_begin = num_full * kMatMulTileRows;
  strips.num_rows = num_rows - strips.row_begin;
  if (strips.num_rows == 0) return strips;
  const int64_t about = DivideUp(strips.num_rows, kMatMulTileRows);
  strips.height = RoundUp(DivideUp(strips.num_rows, about), kRowsRounding);
  strips.count = DivideUp(strips.num_rows, strips.height);
  const int64_t num_blocks = DivideUp(state.num_outputs, state.block_outputs);
  const int64_t wanted = std::max(DivideUp(2 * num_threads, strips.count),
                                  DivideUp(state.num_outputs, kSliceOutputsMax));
  strips.num_slices = std::min(num_blocks, wanted);
  // A number of equal pieces that the threads can share out evenly, if there is one.
  while (strips.num_slices < num_blocks && strips.count * strips.num_slices % num_threads != 0) {
    ++strips.num_slices;
  }
  return strips;
}

class MatMulRun {
 public:
  MatMulRun(const PackedMatrix::State* state, const MatMulParams& params, ThreadPool* pool)
      : state_(state),
        params_(params),
        pool_(pool),
        strips_(CutStrips(*state, params.num_rows, pool->num_threads())) {}

  Status Run() {
    INTARSIA_RETURN_IF_ERROR(RunGuarded([&] { return Plan(); }));
    INTARSIA_RETURN_IF_ERROR(PrepareStrips());
    INTARSIA_ASSIGN_OR_RETURN(workspace_, AlignedArray<uint8_t>::TryCreate(std::max<int64_t>(
                                              1, pool_->num_threads() * worker_bytes())));
    FirstError error(pool_->num_threads());
    pool_->ParallelFor(static_cast<int64_t>(tiles_.size()), [&](int64_t index, int worker) {
      const Tile& tile = tiles_[static_cast<size_t>(index)];
      error.Set(worker, RunGuarded([&] { return RunTile(tile, worker); }));
    });
    return error.Get();
  }

 private:
  bool must_convert() const {
    return state_->type == ComputeType::kBf16 && params_.x_bf16 == nullptr;
  }
  int64_t row_bytes() const { return state_->num_inputs * state_->element_bytes(); }
  int64_t worker_bytes() const {
    return RoundUp(converted_bytes_, kAlignment) + RoundUp(output_bytes_, kAlignment) +
           RoundUp(scratchpad_bytes_, kAlignment);
  }

  // Row `row` of x in the compute type. REQUIRES: !must_convert().
  const uint8_t* InputRow(int64_t row) const {
    const void* x = params_.x;
    if (params_.x_bf16 != nullptr) x = params_.x_bf16;
    return static_cast<const uint8_t*>(x) + row * row_bytes();
  }

  void AddTile(Tile tile) {
    tile.product = &state_->ProductFor(tile.padded_rows, tile.output_begin, tile.num_outputs);
    scratchpad_bytes_ =
        std::max(scratchpad_bytes_, static_cast<int64_t>(tile.product->scratchpad.get_size()));
    if (tile.x == nullptr) converted_bytes_ = kMatMulTileRows * row_bytes();
    if (!IsDirect(tile)) {
      output_bytes_ = std::max(output_bytes_, tile.padded_rows * tile.num_outputs * 4);
    }
    tiles_.push_back(tile);
  }

  // Whether the tile's outputs lie in y without gaps.
  bool IsDirect(const Tile& tile) const {
    return tile.num_outputs == state_->num_outputs && tile.padded_rows == tile.num_rows;
  }

  Status Plan() {
    for (int64_t row = 0; row < strips_.row_begin; row += kMatMulTileRows) {
      AddTile({row, kMatMulTileRows, kMatMulTileRows, 0, state_->num_outputs, nullptr,
               must_convert() ? nullptr : InputRow(row)});
    }
    if (strips_.num_rows == 0) return Status::Ok();
    // Strips are copied if they are rounded to bf16, and the last one if its height is rounded up.
    const int64_t num_whole = must_convert() ? 0 : strips_.num_rows / strips_.height;
    copied_begin_ = num_whole * strips_.height;
    copied_rows_ = strips_.count * strips_.height - copied_begin_;
    if (copied_rows_ > 0) {
      INTARSIA_ASSIGN_OR_RETURN(copied_,
                                AlignedArray<uint8_t>::TryCreate(copied_rows_ * row_bytes()));
    }
    const int64_t num_blocks = DivideUp(state_->num_outputs, state_->block_outputs);
    for (int64_t slice = 0; slice < strips_.num_slices; ++slice) {
      const int64_t begin = num_blocks * slice / strips_.num_slices * state_->block_outputs;
      const int64_t end =
          std::min(num_blocks * (slice + 1) / strips_.num_slices * state_->block_outputs,
                   state_->num_outputs);
      for (int64_t strip = 0; strip < strips_.count; ++strip) {
        const int64_t offset = strip * strips_.height;
        AddTile({strips_.row_begin + offset, std::min(strips_.height, strips_.num_rows - offset),
                 strips_.height, begin, end - begin, nullptr,
                 offset >= copied_begin_ ? copied_.data() + (offset - copied_begin_) * row_bytes()
                                         : InputRow(strips_.row_begin + offset)});
      }
    }
    return Status::Ok();
  }

  // Converts or copies rows of x into copied_, and clears the rows beyond the last.
  Status PrepareStrips() {
    if (copied_rows_ == 0) return Status::Ok();
    pool_->ParallelFor(DivideUp(copied_rows_, kRowsRounding), [&](int64_t index, int /*worker*/) {
      const int64_t begin = index * kRowsRounding;
      const int64_t end = std::min(begin + kRowsRounding, copied_rows_);
      const int64_t valid_end = std::clamp(strips_.num_rows - copied_begin_, begin, end);
      uint8_t* const target = copied_.data() + begin * row_bytes();
      CopyRows(strips_.row_begin + copied_begin_ + begin, valid_end - begin, target);
      std::memset(target + (valid_end - begin) * row_bytes(), 0,
                  static_cast<size_t>((end - valid_end) * row_bytes()));
    });
    return Status::Ok();
  }

  void CopyRows(int64_t row, int64_t num_rows, uint8_t* target) const {
    if (num_rows == 0) return;
    if (must_convert()) {
      F32ToBf16(params_.x + row * state_->num_inputs, num_rows * state_->num_inputs,
                reinterpret_cast<uint16_t*>(target));
    } else {
      std::memcpy(target, InputRow(row), static_cast<size_t>(num_rows * row_bytes()));
    }
  }

  Status RunTile(const Tile& tile, int worker) {
    uint8_t* const converted = workspace_.data() + worker * worker_bytes();
    uint8_t* const output = converted + RoundUp(converted_bytes_, kAlignment);
    uint8_t* const scratchpad = output + RoundUp(output_bytes_, kAlignment);
    const uint8_t* x = tile.x;
    if (x == nullptr) {
      CopyRows(tile.row_begin, tile.num_rows, converted);
      x = converted;
    }
    float* const y = params_.y + tile.row_begin * state_->num_outputs + tile.output_begin;
    float* const target = IsDirect(tile) ? y : reinterpret_cast<float*>(output);
    Multiply(tile, x, target, scratchpad);
    if (target == y) return Status::Ok();
    for (int64_t row = 0; row < tile.num_rows; ++row) {
      std::memcpy(y + row * state_->num_outputs, target + row * tile.num_outputs,
                  static_cast<size_t>(tile.num_outputs) * sizeof(float));
    }
    return Status::Ok();
  }

  void Multiply(const Tile& tile, const uint8_t* x, float* y, uint8_t* scratchpad) const {
    const CompiledProduct& product = *tile.product;
    const dnnl::engine& engine = state_->engine;
    int64_t byte_offset = 0;
    state_->SliceDesc(tile.output_begin, tile.num_outputs, &byte_offset);
    const float* const bias =
        (params_.bias != nullptr ? params_.bias : state_->zeros.data()) + tile.output_begin;
    dnnl::stream stream(engine);
    product.primitive.execute(
        stream,
        {{DNNL_ARG_SRC, memory(product.x, engine, const_cast<uint8_t*>(x))},
         {DNNL_ARG_WEIGHTS, memory(product.weights, engine,
                                   const_cast<uint8_t*>(state_->weights.data()) + byte_offset)},
         {DNNL_ARG_BIAS, memory(product.bias, engine, const_cast<float*>(bias))},
         {DNNL_ARG_DST, memory(product.y, engine, y)},
         {DNNL_ARG_SCRATCHPAD, memory(product.scratchpad, engine, scratchpad)}});
    stream.wait();
  }

  const PackedMatrix::State* const state_;
  const MatMulParams& params_;
  ThreadPool* const pool_;
  const Strips strips_;
  std::vector<Tile> tiles_;
  AlignedArray<uint8_t> copied_;  // rows of the strips from copied_begin_ on, in the compute type
  int64_t copied_begin_ = 0;      // relative to the strips' first row
  int64_t copied_rows_ = 0;
  AlignedArray<uint8_t> workspace_;  // per worker: converted rows, outputs, oneDNN's scratchpad
  int64_t converted_bytes_ = 0;
  int64_t output_bytes_ = 0;
  int64_t scratchpad_bytes_ = 0;
};

}  // namespace

Status CheckMatMul(const MatMulParams& params, const ThreadPool* pool) {
  constexpr int64_t kRowsMax = int64_t{1} << 28;
  std::string wrong;
  if (params.num_rows < 0 || params.num_rows > kRowsMax) wrong = "num_rows is out of range";
  if (params.y == nullptr || pool == nullptr) wrong = "y or the pool is null";
  if ((params.x == nullptr) == (params.x_bf16 == nullptr)) {
    wrong = "exactly one of x and x_bf16 must be set";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "matrix product: " + wrong + ": rows=" + std::to_string(params.num_rows)};
}

Status MatMul(const PackedMatrix& matrix, const MatMulParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckMatMul(params, pool));
  if (params.x_bf16 != nullptr && matrix.type() != ComputeType::kBf16) {
    return {StatusCode::kInvalidArgument, "matrix product: x_bf16 needs a matrix packed as bf16"};
  }
  return MatMulRun(&matrix.state(), params, pool).Run();
}

}  // namespace intarsia::kernels
