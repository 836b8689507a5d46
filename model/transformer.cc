#include "model/transformer.h"

#include <string>
#include <utility>

#include "model/forward_pass.h"
#include "model/transformer_weights.h"

namespace intarsia::model {

struct Transformer::State {
  std::unique_ptr<TransformerWeights> weights;
  kernels::ComputeType compute = kernels::ComputeType::kF32;
  int64_t mapped_bytes = 0;
  ThreadPool* pool = nullptr;
  std::shared_ptr<MemoryPool> memory_pool;
};

namespace {

Status CheckParams(const ModelConfig& config, const ForwardParams& params, const KvCache& cache) {
  const auto refuse = [](const std::string& what) {
    return Status(StatusCode::kInvalidArgument, "forward pass: " + what);
  };
  if (params.tokens.empty()) return refuse("no rows");
  if (params.tokens.size() != params.positions.size()) {
    return refuse("tokens and positions differ in number");
  }
  if (params.num_logit_rows < 0 ||
      static_cast<size_t>(params.num_logit_rows) > params.tokens.size()) {
    return refuse("more logit rows than rows: " + std::to_string(params.num_logit_rows));
  }
  if (params.num_layers < 0 || params.num_layers > config.num_layers ||
      (params.num_layers != 0 && params.num_layers != config.num_layers &&
       params.num_logit_rows != 0)) {
    return refuse("number of layers out of range, or logits without all of them: layers=" +
                  std::to_string(params.num_layers) + " of " + std::to_string(config.num_layers));
  }
  int32_t last = -1;
  for (size_t row = 0; row < params.tokens.size(); ++row) {
    const int32_t token = params.tokens[row];
    const int32_t position = params.positions[row];
    if (token < 0 || token >= config.vocab_size) {
      return refuse("token is not in the vocabulary: " + std::to_string(token));
    }
    if (position <= last || position >= cache.capacity()) {
      return refuse("positions must ascend below " + std::to_string(cache.capacity()) +
                    ": position=" + std::to_string(position));
    }
    last = position;
  }
  return Status::Ok();
}

}  // namespace

Transformer::Transformer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transformer::~Transformer() = default;

Result<std::unique_ptr<Transformer>> Transformer::Load(const GgufFile& file,
                                                       const TransformerOptions& options,
                                                       ThreadPool* pool) {
  auto state = std::make_unique<State>();
  state->compute = options.compute;
  state->mapped_bytes = static_cast<int64_t>(file.bytes().size());
  state->pool = pool;
  state->memory_pool = std::make_shared<MemoryPool>(options.idle_bytes_max);
  INTARSIA_ASSIGN_OR_RETURN(state->weights, TransformerWeights::Load(file, options.compute, pool));
  return std::unique_ptr<Transformer>(new Transformer(std::move(state)));
}

const ModelConfig& Transformer::config() const { return state_->weights->config; }
kernels::ComputeType Transformer::compute() const { return state_->compute; }
ThreadPool* Transformer::pool() const { return state_->pool; }
const std::shared_ptr<MemoryPool>& Transformer::memory_pool() const { return state_->memory_pool; }

const kernels::RopeTable& Transformer::rope(int32_t layer) const {
  return config().has_window(layer) ? *state_->weights->rope_windowed : *state_->weights->rope;
}

kernels::KvType Transformer::kv_type() const {
  return state_->compute == kernels::ComputeType::kF32 ? kernels::KvType::kF32
                                                       : kernels::KvType::kBf16;
}

TransformerMemory Transformer::memory() const {
  return {.packed_bytes = state_->weights->packed_bytes, .mapped_bytes = state_->mapped_bytes};
}

Result<std::vector<float>> Transformer::Forward(const ForwardParams& params, KvCache* cache) const {
  INTARSIA_RETURN_IF_ERROR(CheckParams(config(), params, *cache));
  return ForwardPass(*state_->weights, params, cache, state_->pool).Run(state_->memory_pool);
}

}  // namespace intarsia::model
