// Packing of weights, and the products that oneDNN compiles for them.
#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include <omp.h>

#include "base/first_error.h"
#include "base/rounding.h"
#include "kernels/packed_matrix_state.h"

namespace intarsia::kernels {
namespace {

using dnnl::memory;

static_assert(DNNL_VERSION_MAJOR == 2, "oneDNN 3 has another interface of descriptors");

// Outputs packed at a time.
constexpr int64_t kPackOutputs = 256;

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

// Whether oneDNN may use all the instructions of `wanted` here; its enumerators are sets of bits.
bool HasIsa(dnnl::cpu_isa wanted) {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
}

// Packs the outputs from `begin` on, at most kPackOutputs, or more if a block has more.
Status PackSlice(PackedMatrix::State* state, int64_t begin, int64_t count,
                 const ReadRows& read_rows) {
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> rows,
                            AlignedArray<float>::TryCreate(count * state->num_inputs));
  INTARSIA_RETURN_IF_ERROR(read_rows(begin, begin + count, rows.data()));
  int64_t byte_offset = 0;
  const memory::desc target_desc = state->SliceDesc(begin, count, &byte_offset);
  memory source({{state->num_inputs, count}, memory::data_type::f32, memory::format_tag::ba},
                state->engine, rows.data());
  memory target(target_desc, state->engine, state->weights.data() + byte_offset);
  dnnl::stream stream(state->engine);
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  return Status::Ok();
}

}  // namespace

Status RunGuarded(const std::function<Status()>& body) {
  try {
    const SingleThreaded single_threaded;
    return body();
  } catch (const dnnl::error& error) {
    return ToStatus(error);
  } catch (const std::bad_alloc&) {
    return {StatusCode::kResourceExhausted, "no memory for a matrix product"};
  }
}

const CompiledProduct& PackedMatrix::State::ProductFor(int64_t num_rows, int64_t outputs_begin,
                                                       int64_t outputs) const {
  const std::scoped_lock lock(mutex);
  const auto key = std::make_pair(num_rows, outputs);
  if (const auto found = products.find(key); found != products.end()) return found->second;
  const memory::desc x({num_rows, num_inputs}, dnnl_type(), memory::format_tag::ab);
  int64_t byte_offset = 0;
  const memory::desc slice = SliceDesc(outputs_begin, outputs, &byte_offset);
  const auto desc = Describe(engine, x, slice, outputs);
  CompiledProduct product{dnnl::matmul(desc),    x, slice, desc.bias_desc(), desc.dst_desc(),
                          desc.scratchpad_desc()};
  return products.emplace(key, std::move(product)).first->second;
}

PackedMatrix::PackedMatrix(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackedMatrix::~PackedMatrix() = default;
int64_t PackedMatrix::num_outputs() const { return state_->num_outputs; }
int64_t PackedMatrix::num_inputs() const { return state_->num_inputs; }
ComputeType PackedMatrix::type() const { return state_->type; }
int64_t PackedMatrix::num_bytes() const {
  return static_cast<int64_t>(state_->weights_desc.get_size()) + state_->num_outputs * 4;
}

bool HasFastBf16() { return HasIsa(dnnl::cpu_isa::avx512_core_bf16); }

Status CheckMatrixToPack(int64_t num_outputs, int64_t num_inputs, const ThreadPool* pool) {
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

Result<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(int64_t num_outputs, int64_t num_inputs,
                                                         ComputeType type,
                                                         const ReadRows& read_rows,
                                                         ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckMatrixToPack(num_outputs, num_inputs, pool));
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
  INTARSIA_RETURN_IF_ERROR(RunGuarded([&]() -> Status {
    state->engine = dnnl::engine(dnnl::engine::kind::cpu, 0);
    const memory::desc x({kMatMulTileRows, num_inputs}, state->dnnl_type(), memory::format_tag::ab);
    const memory::desc any({num_inputs, num_outputs}, state->dnnl_type(), memory::format_tag::any);
    state->weights_desc = Describe(state->engine, x, any, num_outputs).weights_desc();
    state->block_outputs = BlockOutputs(state->weights_desc);
    state->zeros.assign(static_cast<size_t>(num_outputs), 0.0f);
    INTARSIA_ASSIGN_OR_RETURN(
        state->weights,
        AlignedArray<uint8_t>::TryCreate(static_cast<int64_t>(state->weights_desc.get_size())));
    return Status::Ok();
  }));
  const int64_t step = RoundUp(kPackOutputs, state->block_outputs);
  FirstError error(pool->num_threads());
  pool->ParallelFor(DivideUp(num_outputs, step), [&](int64_t index, int worker) {
    const int64_t begin = index * step;
    const int64_t count = std::min(step, num_outputs - begin);
    error.Set(worker, RunGuarded([&] { return PackSlice(state.get(), begin, count, read_rows); }));
  });
  INTARSIA_RETURN_IF_ERROR(error.Get());
  return std::unique_ptr<PackedMatrix>(new PackedMatrix(std::move(state)));
}

}  // namespace intarsia::kernels
