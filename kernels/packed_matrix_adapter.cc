// Bound: compute; 2 * num_rows * num_inputs * num_outputs FLOP at the peak of bf16 or f32.
// Design: oneDNN's brgemm reaches the peak on one thread from 8 rows on if its output has no gaps,
// so full tiles of rows span all outputs, and what is left is cut by outputs as well and copied.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "kernels/convert.h"
#include "kernels/packed_matrix.h"

namespace intarsia::kernels {
namespace {

using dnnl::memory;

static_assert(DNNL_VERSION_MAJOR == 2, "oneDNN 3 has another interface of descriptors");

// Rows of a full tile: enough to hide the reading of weights.
constexpr int64_t kTileRows = 128;
// Heights of the other tiles are multiples of it, so that oneDNN generates code for a few only.
constexpr int64_t kRowsRounding = 16;
// [kTileRows, kSliceOutputsMax] of f32 stays in the second-level cache until it is copied.
constexpr int64_t kSliceOutputsMax = 512;
// Outputs packed at a time.
constexpr int64_t kPackOutputs = 256;
constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
int64_t DivideUp(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// oneDNN is called from our own threads and must not start any; the setting is the thread's own,
// and given back because other libraries of the same thread may want theirs.
class SingleThreaded {
 public:
  SingleThreaded() : num_threads_before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(num_threads_before_); }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int num_threads_before_;
};

struct FreeBytes {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};
using Bytes = std::unique_ptr<uint8_t, FreeBytes>;

Result<Bytes> Allocate(int64_t num_bytes) {
  const auto size = static_cast<size_t>(RoundUp(std::max<int64_t>(num_bytes, 1), kAlignment));
  Bytes bytes(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, size)));
  if (bytes == nullptr) {
    return Status(StatusCode::kResourceExhausted,
                  "no memory for a matrix: bytes=" + std::to_string(size));
  }
  return bytes;
}

Status ToStatus(const dnnl::error& error) {
  std::string message = std::string("oneDNN: ") + error.what();
  switch (error.status) {
    case dnnl_out_of_memory:
      return {StatusCode::kResourceExhausted, std::move(message)};
    case dnnl_unimplemented:
      return {StatusCode::kUnsupported, std::move(message)};
    default:
      return {StatusCode::kInternal, std::move(message)};
  }
}

// Runs `body` and turns what oneDNN and the allocator throw into a Status.
template <typename Body>
Status Guarded(const Body& body) {
  try {
    const SingleThreaded single_threaded;
    return body();
  } catch (const dnnl::error& error) {
    return ToStatus(error);
  } catch (const std::bad_alloc&) {
    return {StatusCode::kResourceExhausted, "no memory for a matrix product"};
  }
}

// The first error of a parallel loop.
class FirstError {
 public:
  void Add(Status status) {
    if (status.ok()) return;
    const std::scoped_lock lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
  }
  Status Take() { return std::move(status_); }

 private:
  std::mutex mutex_;
  Status status_;  // Guarded by mutex_ while the loop runs.
};

// A compiled product of [num_rows, num_inputs] with `num_outputs` of the outputs.
struct Product {
  dnnl::matmul primitive;
  memory::desc x, weights, bias, y, scratchpad;
};

}  // namespace

struct PackedMatrix::State {
  // Immutable after Pack.
  int64_t num_outputs = 0;
  int64_t num_inputs = 0;
  ComputeType type = ComputeType::kF32;
  dnnl::engine engine;
  memory::desc weights_desc;  // {num_inputs, num_outputs}, as oneDNN wants it
  int64_t block_outputs = 1;  // outputs that weights_desc keeps together; slices are multiples
  Bytes weights;
  std::vector<float> zeros;  // [num_outputs], the bias of a product without one

  mutable std::mutex mutex;
  // Guarded by mutex; an entry never moves or changes. By (rows, outputs).
  mutable std::map<std::pair<int64_t, int64_t>, Product> products;

  memory::data_type dnnl_type() const {
    return type == ComputeType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
  }
  int64_t element_bytes() const { return type == ComputeType::kBf16 ? 2 : 4; }

  // Where the outputs [begin, begin + count) lie in `weights`; begin is a multiple of
  // block_outputs, and so is count unless it reaches the end.
  memory::desc SliceDesc(int64_t begin, int64_t count, int64_t* byte_offset) const {
    memory::desc slice = weights_desc.submemory_desc({num_inputs, count}, {0, begin});
    *byte_offset = slice.data.offset0 * element_bytes();
    slice.data.offset0 = 0;
    return slice;
  }

  const Product& ProductFor(int64_t num_rows, int64_t outputs_begin, int64_t outputs) const;
};

namespace {

dnnl::matmul::primitive_desc Describe(const dnnl::engine& engine, const memory::desc& x,
                                      const memory::desc& weights, int64_t num_outputs) {
  const memory::desc bias({1, num_outputs}, memory::data_type::f32, memory::format_tag::ab);
  const memory::desc y({x.dims()[0], num_outputs}, memory::data_type::f32, memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return {dnnl::matmul::desc(x, weights, bias, y), attributes, engine};
}

// How many outputs a format keeps together, so that it can be cut between them.
int64_t BlockOutputs(const memory::desc& desc) {
  const dnnl_blocking_desc_t& blocking = desc.data.format_desc.blocking;
  int64_t block = 1;
  for (int i = 0; i < blocking.inner_nblks; ++i) {
    if (blocking.inner_idxs[i] == 1) block *= blocking.inner_blks[i];
  }
  return block;
}

}  // namespace

const Product& PackedMatrix::State::ProductFor(int64_t num_rows, int64_t outputs_begin,
                                               int64_t outputs) const {
  const std::scoped_lock lock(mutex);
  const auto key = std::make_pair(num_rows, outputs);
  if (const auto found = products.find(key); found != products.end()) return found->second;
  const memory::desc x({num_rows, num_inputs}, dnnl_type(), memory::format_tag::ab);
  int64_t byte_offset = 0;
  const memory::desc slice = SliceDesc(outputs_begin, outputs, &byte_offset);
  const auto desc = Describe(engine, x, slice, outputs);
  Product product{dnnl::matmul(desc),    x, slice, desc.bias_desc(), desc.dst_desc(),
                  desc.scratchpad_desc()};
  return products.emplace(key, std::move(product)).first->second;
}

namespace {

// Whether oneDNN may use all the instructions of `wanted` here; its enumerators are sets of bits.
bool HasIsa(dnnl::cpu_isa wanted) {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
}

Status CheckSizes(int64_t num_outputs, int64_t num_inputs, const ThreadPool* pool) {
  // Far above any model, far below where a product of sizes overflows.
  constexpr int64_t kSizeMax = int64_t{1} << 28;
  if (num_outputs >= 1 && num_outputs <= kSizeMax && num_inputs >= 1 && num_inputs <= kSizeMax &&
      pool != nullptr) {
    return Status::Ok();
  }
  return {StatusCode::kInvalidArgument,
          "matrix to pack has a bad size or no pool: outputs=" + std::to_string(num_outputs) +
              " inputs=" + std::to_string(num_inputs)};
}

// Packs the outputs from `begin` on, at most kPackOutputs, or more if a block has more.
Status PackSlice(const PackedMatrix::State* state, int64_t begin, int64_t count,
                 const ReadRows& read_rows) {
  INTARSIA_ASSIGN_OR_RETURN(const Bytes rows, Allocate(count * state->num_inputs * 4));
  auto* const values = reinterpret_cast<float*>(rows.get());
  INTARSIA_RETURN_IF_ERROR(read_rows(begin, begin + count, values));
  int64_t byte_offset = 0;
  const memory::desc target_desc = state->SliceDesc(begin, count, &byte_offset);
  memory source({{state->num_inputs, count}, memory::data_type::f32, memory::format_tag::ba},
                state->engine, values);
  memory target(target_desc, state->engine, state->weights.get() + byte_offset);
  dnnl::stream stream(state->engine);
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  return Status::Ok();
}

}  // namespace

PackedMatrix::PackedMatrix(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackedMatrix::~PackedMatrix() = default;
int64_t PackedMatrix::num_outputs() const { return state_->num_outputs; }
int64_t PackedMatrix::num_inputs() const { return state_->num_inputs; }
ComputeType PackedMatrix::type() const { return state_->type; }
int64_t PackedMatrix::num_bytes() const {
  return static_cast<int64_t>(state_->weights_desc.get_size()) + state_->num_outputs * 4;
}

bool HasFastBf16() { return HasIsa(dnnl::cpu_isa::avx512_core_bf16); }

Result<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(int64_t num_outputs, int64_t num_inputs,
                                                         ComputeType type,
                                                         const ReadRows& read_rows,
                                                         ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckSizes(num_outputs, num_inputs, pool));
  if (type == ComputeType::kBf16 && !HasIsa(dnnl::cpu_isa::avx512_core)) {
    return Status(StatusCode::kUnsupported, "bf16 products need AVX-512; pack as f32 instead");
  }
  if (type == ComputeType::kInt8) {
    return Status(StatusCode::kUnsupported, "int8 products need another packing");
  }
  auto state = std::make_unique<State>();
  state->num_outputs = num_outputs;
  state->num_inputs = num_inputs;
  state->type = type;
  INTARSIA_RETURN_IF_ERROR(Guarded([&]() -> Status {
    state->engine = dnnl::engine(dnnl::engine::kind::cpu, 0);
    const memory::desc x({kTileRows, num_inputs}, state->dnnl_type(), memory::format_tag::ab);
    const memory::desc any({num_inputs, num_outputs}, state->dnnl_type(), memory::format_tag::any);
    state->weights_desc = Describe(state->engine, x, any, num_outputs).weights_desc();
    state->block_outputs = BlockOutputs(state->weights_desc);
    state->zeros.assign(static_cast<size_t>(num_outputs), 0.0f);
    INTARSIA_ASSIGN_OR_RETURN(state->weights,
                              Allocate(static_cast<int64_t>(state->weights_desc.get_size())));
    return Status::Ok();
  }));
  const int64_t step = RoundUp(kPackOutputs, state->block_outputs);
  FirstError error;
  pool->ParallelFor(DivideUp(num_outputs, step), [&](int64_t index, int /*worker*/) {
    const int64_t begin = index * step;
    const int64_t count = std::min(step, num_outputs - begin);
    error.Add(Guarded([&] { return PackSlice(state.get(), begin, count, read_rows); }));
  });
  INTARSIA_RETURN_IF_ERROR(error.Take());
  return std::unique_ptr<PackedMatrix>(new PackedMatrix(std::move(state)));
}

namespace {

// A part of the product: some rows and some outputs, done by one thread.
struct Tile {
  int64_t row_begin = 0;
  int64_t num_rows = 0;     // rows of y
  int64_t padded_rows = 0;  // rows multiplied
  int64_t output_begin = 0;
  int64_t num_outputs = 0;
  const Product* product = nullptr;
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
  int64_t num_full = num_rows / kTileRows;
  // With few tiles, an odd one would leave threads idle; its rows are cut by outputs instead.
  if (num_full < 8 * num_threads) num_full -= num_full % num_threads;
  Strips strips;
  strips.row_begin = num_full * kTileRows;
  strips.num_rows = num_rows - strips.row_begin;
  if (strips.num_rows == 0) return strips;
  const int64_t about = DivideUp(strips.num_rows, kTileRows);
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
    INTARSIA_RETURN_IF_ERROR(Guarded([&] { return Plan(); }));
    INTARSIA_RETURN_IF_ERROR(PrepareStrips());
    INTARSIA_ASSIGN_OR_RETURN(workspace_, Allocate(pool_->num_threads() * worker_bytes()));
    FirstError error;
    pool_->ParallelFor(static_cast<int64_t>(tiles_.size()), [&](int64_t index, int worker) {
      const Tile& tile = tiles_[static_cast<size_t>(index)];
      error.Add(Guarded([&] { return RunTile(tile, worker); }));
    });
    return error.Take();
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
    if (tile.x == nullptr) converted_bytes_ = kTileRows * row_bytes();
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
    for (int64_t row = 0; row < strips_.row_begin; row += kTileRows) {
      AddTile({row, kTileRows, kTileRows, 0, state_->num_outputs, nullptr,
               must_convert() ? nullptr : InputRow(row)});
    }
    if (strips_.num_rows == 0) return Status::Ok();
    // Strips are copied if they are rounded to bf16, and the last one if its height is rounded up.
    const int64_t num_whole = must_convert() ? 0 : strips_.num_rows / strips_.height;
    copied_begin_ = num_whole * strips_.height;
    copied_rows_ = strips_.count * strips_.height - copied_begin_;
    if (copied_rows_ > 0) {
      INTARSIA_ASSIGN_OR_RETURN(copied_, Allocate(copied_rows_ * row_bytes()));
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
                 offset >= copied_begin_ ? copied_.get() + (offset - copied_begin_) * row_bytes()
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
      uint8_t* const target = copied_.get() + begin * row_bytes();
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
    uint8_t* const converted = workspace_.get() + worker * worker_bytes();
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
    const Product& product = *tile.product;
    const dnnl::engine& engine = state_->engine;
    int64_t byte_offset = 0;
    state_->SliceDesc(tile.output_begin, tile.num_outputs, &byte_offset);
    const float* const bias =
        (params_.bias != nullptr ? params_.bias : state_->zeros.data()) + tile.output_begin;
    dnnl::stream stream(engine);
    product.primitive.execute(
        stream,
        {{DNNL_ARG_SRC, memory(product.x, engine, const_cast<uint8_t*>(x))},
         {DNNL_ARG_WEIGHTS, memory(product.weights, engine, state_->weights.get() + byte_offset)},
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
  Bytes copied_;              // rows of the strips from copied_begin_ on, in the compute type
  int64_t copied_begin_ = 0;  // relative to the strips' first row
  int64_t copied_rows_ = 0;
  Bytes workspace_;  // per worker: converted rows, outputs, oneDNN's scratchpad
  int64_t converted_bytes_ = 0;
  int64_t output_bytes_ = 0;
  int64_t scratchpad_bytes_ = 0;
};

Status CheckParams(const PackedMatrix::State& state, const MatMulParams& params,
                   const ThreadPool* pool) {
  constexpr int64_t kRowsMax = int64_t{1} << 28;
  std::string wrong;
  if (params.num_rows < 0 || params.num_rows > kRowsMax) wrong = "num_rows is out of range";
  if (params.y == nullptr || pool == nullptr) wrong = "y or the pool is null";
  if ((params.x == nullptr) == (params.x_bf16 == nullptr)) {
    wrong = "exactly one of x and x_bf16 must be set";
  }
  if (params.x_bf16 != nullptr && state.type != ComputeType::kBf16) {
    wrong = "x_bf16 needs a matrix packed as bf16";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "matrix product: " + wrong + ": rows=" + std::to_string(params.num_rows)};
}

}  // namespace

Status MatMul(const PackedMatrix& matrix, const MatMulParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckParams(matrix.state(), params, pool));
  return MatMulRun(&matrix.state(), params, pool).Run();
}

}  // namespace intarsia::kernels
