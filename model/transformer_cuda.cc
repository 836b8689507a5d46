#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kernels/quantize_rows.h"
#include "kernels/random_weights.h"
#include "model/cuda_transformer.h"
#include "model/cuda_weights.h"
#include "model/linear.h"
#include "model/weight_upload.h"

namespace intarsia::model {
namespace {

// What vector accesses and cuBLASLt ask of a row's length.
constexpr int64_t kSizeStep = 8;
constexpr int64_t kFp8SizeStep = 16;
// The first with products in e4m3.
constexpr int32_t kFp8Capability = 89;
constexpr int32_t kSizeMax = 1 << 20;

// The kernels of attention exist for these.
bool IsHeadDimSupported(int32_t head_dim) {
  return head_dim == 64 || head_dim == 128 || head_dim == 256;
}

Status CheckShape(const ModelConfig& config) {
  const auto is_size = [](int32_t size) { return size >= 1 && size <= kSizeMax; };
  if (!is_size(config.num_layers) || !is_size(config.hidden_size) || !is_size(config.num_heads) ||
      !is_size(config.num_kv_heads) || !is_size(config.ffn_size) || !is_size(config.vocab_size) ||
      config.num_heads % config.num_kv_heads != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda model: bad shape: layers=" + std::to_string(config.num_layers) +
                      " hidden=" + std::to_string(config.hidden_size) +
                      " heads=" + std::to_string(config.num_heads) +
                      " kv_heads=" + std::to_string(config.num_kv_heads) +
                      " ffn=" + std::to_string(config.ffn_size));
  }
  if (!IsHeadDimSupported(config.head_dim) || config.hidden_size % kSizeStep != 0 ||
      config.ffn_size % kSizeStep != 0) {
    return Status(
        StatusCode::kUnsupported,
        "cuda model: no kernel for this shape: head_dim=" + std::to_string(config.head_dim) +
            " (want 64, 128 or 256) hidden=" + std::to_string(config.hidden_size) +
            " ffn=" + std::to_string(config.ffn_size) + " (want multiples of 8)");
  }
  return Status::Ok();
}

Status CheckFp8(const ModelConfig& config, int32_t device) {
  INTARSIA_ASSIGN_OR_RETURN(const kernels::DeviceInfo info, kernels::QueryDevice(device));
  if (info.capability < kFp8Capability) {
    return Status(
        StatusCode::kUnsupported,
        "cuda model: fp8 products need compute capability 8.9 or newer; use bf16: device=" +
            info.name + " capability=" + std::to_string(info.capability));
  }
  const int64_t qkv_size = config.q_size() + 2 * config.kv_size();
  if (config.hidden_size % kFp8SizeStep != 0 || config.ffn_size % kFp8SizeStep != 0 ||
      qkv_size % kFp8SizeStep != 0 || config.q_size() > kernels::kFp8DimMax ||
      config.ffn_size > kernels::kFp8DimMax) {
    return Status(StatusCode::kUnsupported,
                  "cuda model: no fp8 product for this shape; use bf16: hidden=" +
                      std::to_string(config.hidden_size) +
                      " ffn=" + std::to_string(config.ffn_size) + " (want multiples of 16 up to " +
                      std::to_string(kernels::kFp8DimMax) + ")");
  }
  return Status::Ok();
}

// The table of a rope and its digits on the device.
Status AddRope(const ModelConfig& config, const kernels::RopeOptions& options, CudaWeights* weights,
               std::unique_ptr<kernels::RopeTable>* table, kernels::RopeDigits* digits) {
  INTARSIA_ASSIGN_OR_RETURN(*table, kernels::RopeTable::Create(options));
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> values,
                            kernels::FillRopeDigits(**table, kCudaPositionsMax));
  const auto num_bytes = static_cast<int64_t>(values.size() * sizeof(float));
  INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(num_bytes, weights));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToDevice(memory, values.data(), num_bytes, weights->stream.get()));
  const auto* const low = static_cast<const float*>(memory);
  *digits = {.low = low,
             .high = low + kernels::kRopeDigitValues * options.rotary_dim,
             .num_high = kernels::NumHighRopeDigits(kCudaPositionsMax),
             .rotary_dim = options.rotary_dim,
             .pairing = config.rope_pairing};
  return Status::Ok();
}

Result<std::unique_ptr<CudaWeights>> StartWeights(const ModelConfig& config, int32_t device,
                                                  const CudaTransformerOptions& options) {
  INTARSIA_RETURN_IF_ERROR(CheckShape(config));
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(device));
  if (options.compute == CudaCompute::kFp8) {
    INTARSIA_RETURN_IF_ERROR(CheckFp8(config, device));
  }
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  auto weights = std::make_unique<CudaWeights>(std::move(stream));
  weights->config = config;
  weights->options = options;
  weights->device = device;
  weights->logit_stride = (config.vocab_size + kSizeStep - 1) / kSizeStep * kSizeStep;
  INTARSIA_ASSIGN_OR_RETURN(weights->products, kernels::DeviceMatrixProducts::Create());
  INTARSIA_RETURN_IF_ERROR(
      AddRope(config, config.rope, weights.get(), &weights->rope, &weights->digits));
  if (config.sliding_window > 0) {
    INTARSIA_RETURN_IF_ERROR(AddRope(config, config.rope_windowed, weights.get(),
                                     &weights->rope_windowed, &weights->digits_windowed));
  }
  return weights;
}

// The forms of a matrix whose bf16 is on the device, or on its way there, as the last of the
// weights' memory. Adds e4m3 if the model uses it, and gives back bf16 if it does not.
Result<CudaMatrix> MakeForms(const uint16_t* bf16, int64_t num_outputs, int64_t num_inputs,
                             CudaWeights* weights) {
  CudaMatrix matrix{.bf16 = bf16};
  if (!weights->is_fp8()) return matrix;
  const size_t bf16_index = weights->memory.size() - 1;
  INTARSIA_ASSIGN_OR_RETURN(void* codes, AllocateWeights(num_outputs * num_inputs, weights));
  INTARSIA_ASSIGN_OR_RETURN(
      void* scales, AllocateWeights(num_outputs * static_cast<int64_t>(sizeof(float)), weights));
  const kernels::Fp8Target target{static_cast<uint8_t*>(codes), static_cast<float*>(scales)};
  INTARSIA_RETURN_IF_ERROR(kernels::QuantizeRowsCuda(
      {.x = bf16, .y = target, .num_rows = num_outputs, .dim = num_inputs}, weights->stream.get()));
  matrix.fp8 = {target.codes, target.scales};
  if (!weights->keeps_bf16()) {
    // Behind the work above on the stream.
    weights->num_bytes -= weights->memory[bf16_index].num_bytes();
    weights->memory.erase(weights->memory.begin() + static_cast<std::ptrdiff_t>(bf16_index));
    matrix.bf16 = nullptr;
  }
  return matrix;
}

// Loads the matrix of a layer.
Result<CudaMatrix> LoadMatrix(const std::vector<LinearPart>& parts, int64_t num_inputs,
                              WeightUpload* upload, CudaWeights* weights) {
  int64_t num_outputs = 0;
  for (const LinearPart& part : parts) num_outputs += part.num_outputs;
  INTARSIA_ASSIGN_OR_RETURN(const uint16_t* bf16, upload->Matrix(parts, num_inputs, 0));
  return MakeForms(bf16, num_outputs, num_inputs, weights);
}

Status LoadLayer(int32_t index, WeightUpload* upload, CudaWeights* weights) {
  const ModelConfig& config = weights->config;
  CudaLayerWeights* const layer = &weights->layers[static_cast<size_t>(index)];
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const int64_t hidden = config.hidden_size;
  const std::vector<LinearPart> qkv = {{prefix + "attn_q", config.q_size()},
                                       {prefix + "attn_k", config.kv_size()},
                                       {prefix + "attn_v", config.kv_size()}};
  if (weights->is_qkv_fp8()) {
    INTARSIA_ASSIGN_OR_RETURN(layer->qkv, LoadMatrix(qkv, hidden, upload, weights));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(layer->qkv.bf16, upload->Matrix(qkv, hidden, 0));
  }
  INTARSIA_ASSIGN_OR_RETURN(layer->qkv_bias, upload->Bias(qkv));
  INTARSIA_ASSIGN_OR_RETURN(layer->output, LoadMatrix({{prefix + "attn_output", hidden}},
                                                      config.q_size(), upload, weights));
  INTARSIA_ASSIGN_OR_RETURN(layer->gate_up, LoadMatrix({{prefix + "ffn_gate", config.ffn_size},
                                                        {prefix + "ffn_up", config.ffn_size}},
                                                       hidden, upload, weights));
  INTARSIA_ASSIGN_OR_RETURN(
      layer->down, LoadMatrix({{prefix + "ffn_down", hidden}}, config.ffn_size, upload, weights));
  INTARSIA_ASSIGN_OR_RETURN(layer->attention_norm,
                            upload->Vector(prefix + "attn_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer->ffn_norm, upload->Vector(prefix + "ffn_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer->post_attention_norm,
                            upload->OptionalVector(prefix + "post_attention_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer->post_ffn_norm,
                            upload->OptionalVector(prefix + "post_ffw_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer->q_norm,
                            upload->OptionalVector(prefix + "attn_q_norm.weight", config.head_dim));
  INTARSIA_ASSIGN_OR_RETURN(layer->k_norm,
                            upload->OptionalVector(prefix + "attn_k_norm.weight", config.head_dim));
  if ((layer->q_norm == nullptr) != (layer->k_norm == nullptr)) {
    return Status(
        StatusCode::kCorruption,
        "model file has a norm of queries or of keys alone: layer=" + std::to_string(index));
  }
  return Status::Ok();
}

// Makes random weights, one seed after the other.
class RandomMaker {
 public:
  RandomMaker(uint64_t seed, CudaWeights* target) : seed_(seed << 20), target_(target) {}

  // Outputs have `magnitude` times the deviation of inputs.
  Result<const uint16_t*> Matrix(int64_t num_outputs, int64_t num_inputs, double magnitude) {
    const int64_t size = num_outputs * num_inputs;
    INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(2 * size, target_));
    auto* const bits = static_cast<uint16_t*>(memory);
    const double deviation = magnitude / std::sqrt(static_cast<double>(num_inputs));
    INTARSIA_RETURN_IF_ERROR(kernels::RandomWeightsCuda(
        {.y = bits, .size = size, .deviation = static_cast<float>(deviation), .seed = seed_++},
        target_->stream.get()));
    return static_cast<const uint16_t*>(bits);
  }

  // The same in the forms that a layer has.
  Result<CudaMatrix> LayerMatrix(int64_t num_outputs, int64_t num_inputs, double magnitude) {
    INTARSIA_ASSIGN_OR_RETURN(const uint16_t* bf16, Matrix(num_outputs, num_inputs, magnitude));
    return MakeForms(bf16, num_outputs, num_inputs, target_);
  }

  Result<const float*> Ones(int64_t size) {
    const std::vector<float> ones(static_cast<size_t>(size), 1.0F);
    const int64_t num_bytes = size * static_cast<int64_t>(sizeof(float));
    INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(num_bytes, target_));
    INTARSIA_RETURN_IF_ERROR(
        kernels::CopyToDevice(memory, ones.data(), num_bytes, target_->stream.get()));
    return static_cast<const float*>(memory);
  }

 private:
  uint64_t seed_;
  CudaWeights* target_;
};

Result<CudaLayerWeights> RandomLayer(const CudaWeights& weights, RandomMaker* maker) {
  const ModelConfig& config = weights.config;
  const int64_t hidden = config.hidden_size;
  // What a layer adds to the residual stream twice; the sum over all layers stays of order 1.
  const double share = 1.0 / std::sqrt(2.0 * config.num_layers);
  CudaLayerWeights layer;
  const int64_t qkv_size = config.q_size() + 2 * config.kv_size();
  if (weights.is_qkv_fp8()) {
    INTARSIA_ASSIGN_OR_RETURN(layer.qkv, maker->LayerMatrix(qkv_size, hidden, 1.0));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(layer.qkv.bf16, maker->Matrix(qkv_size, hidden, 1.0));
  }
  INTARSIA_ASSIGN_OR_RETURN(layer.output, maker->LayerMatrix(hidden, config.q_size(), share));
  INTARSIA_ASSIGN_OR_RETURN(layer.gate_up, maker->LayerMatrix(2 * config.ffn_size, hidden, 1.0));
  INTARSIA_ASSIGN_OR_RETURN(layer.down, maker->LayerMatrix(hidden, config.ffn_size, share));
  INTARSIA_ASSIGN_OR_RETURN(layer.attention_norm, maker->Ones(hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer.ffn_norm, maker->Ones(hidden));
  return layer;
}

}  // namespace

CudaTransformer::CudaTransformer(std::unique_ptr<CudaWeights> weights)
    : weights_(std::move(weights)) {}
CudaTransformer::~CudaTransformer() = default;

Result<std::unique_ptr<CudaTransformer>> CudaTransformer::Load(
    const GgufFile& file, int32_t device, ThreadPool* pool, const CudaTransformerOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::FromGguf(file));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<CudaWeights> weights,
                            StartWeights(config, device, options));
  INTARSIA_ASSIGN_OR_RETURN(WeightUpload upload, WeightUpload::Create(file, pool, weights.get()));
  INTARSIA_ASSIGN_OR_RETURN(weights->embedding,
                            upload.Matrix({{"token_embd", config.vocab_size}}, config.hidden_size,
                                          weights->logit_stride));
  weights->head = weights->embedding;
  if (file.GetTensor("output.weight").ok()) {
    INTARSIA_ASSIGN_OR_RETURN(
        weights->head,
        upload.Matrix({{"output", config.vocab_size}}, config.hidden_size, weights->logit_stride));
  }
  INTARSIA_ASSIGN_OR_RETURN(weights->output_norm,
                            upload.Vector("output_norm.weight", config.hidden_size));
  weights->layers.resize(static_cast<size_t>(config.num_layers));
  for (int32_t index = 0; index < config.num_layers; ++index) {
    INTARSIA_RETURN_IF_ERROR(LoadLayer(index, &upload, weights.get()));
  }
  INTARSIA_RETURN_IF_ERROR(upload.Finish());
  return std::unique_ptr<CudaTransformer>(new CudaTransformer(std::move(weights)));
}

Result<std::unique_ptr<CudaTransformer>> CudaTransformer::CreateRandom(
    const ModelConfig& config, int32_t device, uint64_t seed,
    const CudaTransformerOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<CudaWeights> weights,
                            StartWeights(config, device, options));
  RandomMaker maker(seed, weights.get());
  INTARSIA_ASSIGN_OR_RETURN(weights->embedding,
                            maker.Matrix(weights->logit_stride, config.hidden_size,
                                         std::sqrt(static_cast<double>(config.hidden_size))));
  INTARSIA_ASSIGN_OR_RETURN(weights->head,
                            maker.Matrix(weights->logit_stride, config.hidden_size, 1.0));
  INTARSIA_ASSIGN_OR_RETURN(weights->output_norm, maker.Ones(config.hidden_size));
  for (int32_t index = 0; index < config.num_layers; ++index) {
    INTARSIA_ASSIGN_OR_RETURN(const CudaLayerWeights layer, RandomLayer(*weights, &maker));
    weights->layers.push_back(layer);
  }
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(weights->stream.get()));
  return std::unique_ptr<CudaTransformer>(new CudaTransformer(std::move(weights)));
}

const ModelConfig& CudaTransformer::config() const { return weights_->config; }
int32_t CudaTransformer::device() const { return weights_->device; }
CudaCompute CudaTransformer::compute() const { return weights_->options.compute; }
int64_t CudaTransformer::weight_bytes() const { return weights_->num_bytes; }

const kernels::RopeTable& CudaTransformer::rope(int32_t layer) const {
  return config().has_window(layer) ? *weights_->rope_windowed : *weights_->rope;
}

const kernels::RopeDigits& CudaTransformer::rope_digits(int32_t layer) const {
  return weights_->rope_digits(layer);
}

}  // namespace intarsia::model
