#include "model/forward_pass.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "base/check.h"
#include "base/first_error.h"
#include "kernels/activation.h"
#include "kernels/attention_rows.h"
#include "kernels/elementwise.h"
#include "kernels/quantized_gemv.h"
#include "kernels/rms_norm.h"

namespace intarsia::model {
namespace {

// Rows of the feed-forward block at a time: its inner width is the widest array of a pass, and a
// block of this height keeps it within tens of megabytes at full speed.
constexpr int64_t kFfnRows = 512;

// Rows that one thread copies or stores at a time.
constexpr int64_t kRowsPerTask = 64;

int64_t NumTasks(int64_t num_rows) { return (num_rows + kRowsPerTask - 1) / kRowsPerTask; }

// Moves the `kept` rows of [num_rows, width] to the front.
void GatherRows(const std::vector<int32_t>& kept, int64_t width, float* rows) {
  if (width == 0) return;  // such as angles that the model does not have
  for (size_t to = 0; to < kept.size(); ++to) {
    std::memmove(rows + static_cast<int64_t>(to) * width, rows + kept[to] * width,
                 static_cast<size_t>(width) * sizeof(float));
  }
}

}  // namespace

ForwardPass::ForwardPass(const TransformerWeights& weights, const ForwardParams& params,
                         KvCache* cache, ThreadPool* pool)
    : weights_(weights),
      config_(weights.config),
      params_(params),
      cache_(cache),
      pool_(pool),
      positions_(params.positions.begin(), params.positions.end()),
      num_rows_(static_cast<int64_t>(positions_.size())),
      num_layers_(params.num_layers == 0 ? weights.config.num_layers : params.num_layers) {}

Status ForwardPass::Allocate(const std::shared_ptr<MemoryPool>& memory) {
  const int64_t hidden = num_rows_ * config_.hidden_size;
  const int64_t q_size = num_rows_ * config_.q_size();
  const int64_t kv_size = num_rows_ * config_.kv_size();
  const int64_t ffn = std::min(num_rows_, kFfnRows) * config_.ffn_size;
  const auto take = [&](int64_t size, auto* array) -> Status {
    using Array = std::remove_reference_t<decltype(*array)>;
    INTARSIA_ASSIGN_OR_RETURN(*array, Array::TryCreate(size, memory));
    return Status::Ok();
  };
  INTARSIA_RETURN_IF_ERROR(take(hidden, &hidden_));
  INTARSIA_RETURN_IF_ERROR(take(hidden, &addend_));
  INTARSIA_RETURN_IF_ERROR(take(hidden, &normed_));
  INTARSIA_RETURN_IF_ERROR(take(hidden, &normed_bf16_));
  INTARSIA_RETURN_IF_ERROR(take(q_size + 2 * kv_size, &qkv_));
  INTARSIA_RETURN_IF_ERROR(take(q_size, &q_));
  INTARSIA_RETURN_IF_ERROR(take(kv_size, &k_));
  INTARSIA_RETURN_IF_ERROR(take(kv_size, &k_rotated_));
  INTARSIA_RETURN_IF_ERROR(take(kv_size, &v_));
  INTARSIA_RETURN_IF_ERROR(take(q_size, &attended_));
  INTARSIA_RETURN_IF_ERROR(take(2 * ffn, &gate_up_));
  INTARSIA_RETURN_IF_ERROR(take(ffn, &activated_));
  return take(ffn, &activated_bf16_);
}

Result<std::vector<float>> ForwardPass::Run(const std::shared_ptr<MemoryPool>& memory) {
  INTARSIA_RETURN_IF_ERROR(Allocate(memory));
  INTARSIA_RETURN_IF_ERROR(Embed());
  INTARSIA_RETURN_IF_ERROR(FillAngles(*weights_.rope, &angles_));
  if (weights_.rope_windowed != nullptr) {
    INTARSIA_RETURN_IF_ERROR(FillAngles(*weights_.rope_windowed, &angles_windowed_));
  }
  for (int32_t index = 0; index < num_layers_; ++index) {
    if (params_.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(params_.cancel->Check());
    INTARSIA_RETURN_IF_ERROR(RunLayer(index));
  }
  return ComputeLogits();
}

Status ForwardPass::Embed() {
  const GgufTensor& table = *weights_.embedding;
  const int64_t width = config_.hidden_size;
  const int64_t row_bytes = kernels::RowBytes(table.type, width);
  FirstError error(pool_->num_threads());
  pool_->ParallelFor(NumTasks(num_rows_), [&](int64_t task, int worker) {
    const int64_t end = std::min(num_rows_, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      const int64_t token = params_.tokens[static_cast<size_t>(row)];
      float* const target = hidden_.data() + row * width;
      error.Set(worker, kernels::Dequantize(table.type, table.bytes.data() + token * row_bytes,
                                            width, target));
      if (config_.embedding_scale != 1.0f) kernels::Scale(config_.embedding_scale, width, target);
    }
  });
  return error.Get();
}

Status ForwardPass::FillAngles(const kernels::RopeTable& table, Angles* angles) {
  const int64_t num_pairs = table.rotary_dim() / 2;
  INTARSIA_ASSIGN_OR_RETURN(angles->cosines, AlignedArray<float>::TryCreate(num_rows_ * num_pairs));
  INTARSIA_ASSIGN_OR_RETURN(angles->sines, AlignedArray<float>::TryCreate(num_rows_ * num_pairs));
  return table.Fill(positions_.data(), num_rows_, angles->cosines.data(), angles->sines.data());
}

const ForwardPass::Angles& ForwardPass::AnglesOf(int32_t layer) const {
  return config_.has_window(layer) ? angles_windowed_ : angles_;
}

Status ForwardPass::RunLayer(int32_t index) {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  INTARSIA_RETURN_IF_ERROR(NormFor(*layer.qkv, layer.attention_norm));
  INTARSIA_RETURN_IF_ERROR(ComputeQkv(layer, index));
  std::vector<int32_t> kept;
  if (params_.observer != nullptr) {
    INTARSIA_RETURN_IF_ERROR(params_.observer->OnKeysAndValues(
        {.layer = index, .positions = positions_, .k = k_.data(), .v = v_.data(), .cache = cache_},
        &kept));
  }
  INTARSIA_RETURN_IF_ERROR(StoreKeysAndValues(index));
  if (!kept.empty()) KeepRows(kept);
  if (params_.observer != nullptr) {
    INTARSIA_RETURN_IF_ERROR(params_.observer->OnQueries(
        {.layer = index, .positions = positions_, .q = q_.data(), .cache = cache_}));
  }
  if (index == num_layers_ - 1) KeepLogitRows();
  if (num_rows_ == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(Attend(index));
  INTARSIA_RETURN_IF_ERROR(layer.output->Apply(
      {.x = attended_.data(), .y = addend_.data(), .num_rows = num_rows_}, pool_));
  if (!layer.post_attention_norm.empty()) {
    INTARSIA_RETURN_IF_ERROR(kernels::RmsNorm({.x = addend_.data(),
                                               .weight = layer.post_attention_norm.data(),
                                               .y = addend_.data(),
                                               .num_rows = num_rows_,
                                               .dim = config_.hidden_size,
                                               .epsilon = config_.norm_epsilon},
                                              pool_));
  }
  has_addend_ = true;
  return RunFfn(layer);
}

Status ForwardPass::NormFor(const Linear& linear, const std::vector<float>& weight) {
  const bool is_f32 = linear.WantsF32(num_rows_);
  INTARSIA_RETURN_IF_ERROR(kernels::RmsNorm({.x = hidden_.data(),
                                             .addend = has_addend_ ? addend_.data() : nullptr,
                                             .sum = has_addend_ ? hidden_.data() : nullptr,
                                             .weight = weight.data(),
                                             .y = is_f32 ? normed_.data() : nullptr,
                                             .y_bf16 = is_f32 ? nullptr : normed_bf16_.data(),
                                             .num_rows = num_rows_,
                                             .dim = config_.hidden_size,
                                             .epsilon = config_.norm_epsilon},
                                            pool_));
  has_addend_ = false;
  return Status::Ok();
}

kernels::MatMulParams ForwardPass::NormedInput(const Linear& linear) const {
  if (linear.WantsF32(num_rows_)) return {.x = normed_.data(), .num_rows = num_rows_};
  return {.x_bf16 = normed_bf16_.data(), .num_rows = num_rows_};
}

Status ForwardPass::ComputeQkv(const LayerWeights& layer, int32_t index) {
  kernels::MatMulParams product = NormedInput(*layer.qkv);
  product.y = qkv_.data();
  INTARSIA_RETURN_IF_ERROR(layer.qkv->Apply(product, pool_));
  const int64_t q_size = config_.q_size();
  const int64_t kv_size = config_.kv_size();
  const int64_t stride = q_size + 2 * kv_size;
  const auto norm_heads = [&](float* x, int32_t num_heads, const std::vector<float>& weight) {
    if (weight.empty()) return Status::Ok();
    return kernels::RmsNorm({.x = x,
                             .x_stride = stride,
                             .weight = weight.data(),
                             .y = x,
                             .y_stride = stride,
                             .num_rows = num_rows_,
                             .num_groups = num_heads,
                             .dim = config_.head_dim,
                             .epsilon = config_.norm_epsilon},
                            pool_);
  };
  INTARSIA_RETURN_IF_ERROR(norm_heads(qkv_.data(), config_.num_heads, layer.q_norm));
  INTARSIA_RETURN_IF_ERROR(norm_heads(qkv_.data() + q_size, config_.num_kv_heads, layer.k_norm));
  pool_->ParallelFor(NumTasks(num_rows_), [&](int64_t task, int) {
    const int64_t end = std::min(num_rows_, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      const float* const source = qkv_.data() + row * stride + q_size;
      std::copy_n(source, kv_size, k_.data() + row * kv_size);
      std::copy_n(source + kv_size, kv_size, v_.data() + row * kv_size);
    }
  });
  const Angles& angles = AnglesOf(index);
  INTARSIA_RETURN_IF_ERROR(Rotate(qkv_.data(), stride, config_.num_heads, angles, q_.data()));
  return Rotate(k_.data(), kv_size, config_.num_kv_heads, angles, k_rotated_.data());
}

Status ForwardPass::Rotate(const float* x, int64_t x_stride, int32_t num_heads,
                           const Angles& angles, float* y) {
  const kernels::RopeTable& table = &angles == &angles_ ? *weights_.rope : *weights_.rope_windowed;
  return kernels::ApplyRope({.x = x,
                             .x_stride = x_stride,
                             .cosines = angles.cosines.data(),
                             .sines = angles.sines.data(),
                             .y = y,
                             .num_tokens = num_rows_,
                             .num_heads = num_heads,
                             .head_dim = config_.head_dim,
                             .rotary_dim = table.rotary_dim(),
                             .pairing = config_.rope_pairing},
                            pool_);
}

Status ForwardPass::StoreKeysAndValues(int32_t index) {
  // Two threads must not write into one block of tokens, so a task ends where a block does.
  const auto first_row_of = [&](int64_t task) {
    int64_t row = std::min(num_rows_, task * kRowsPerTask);
    const auto block = [&](int64_t at) {
      return positions_[static_cast<size_t>(at)] / kernels::kKvBlockTokens;
    };
    while (row > 0 && row < num_rows_ && block(row) == block(row - 1)) ++row;
    return row;
  };
  const int64_t kv_size = config_.kv_size();
  FirstError error(pool_->num_threads());
  pool_->ParallelFor(NumTasks(num_rows_), [&](int64_t task, int worker) {
    const int64_t begin = first_row_of(task);
    const int64_t end = first_row_of(task + 1);
    if (begin >= end) return;
    error.Set(worker, kernels::StoreKv({.layer = cache_->layer(index),
                                        .positions = positions_.data() + begin,
                                        .k = k_rotated_.data() + begin * kv_size,
                                        .v = v_.data() + begin * kv_size,
                                        .num_tokens = end - begin}));
  });
  return error.Get();
}

void ForwardPass::KeepRows(const std::vector<int32_t>& kept) {
  GatherRows(kept, config_.hidden_size, hidden_.data());
  GatherRows(kept, config_.q_size(), q_.data());
  for (auto* angles : {&angles_, &angles_windowed_}) {
    const int64_t num_pairs = angles->cosines.size() / std::max<int64_t>(num_rows_, 1);
    GatherRows(kept, num_pairs, angles->cosines.data());
    GatherRows(kept, num_pairs, angles->sines.data());
  }
  for (size_t to = 0; to < kept.size(); ++to) {
    positions_[to] = positions_[static_cast<size_t>(kept[to])];
  }
  positions_.resize(kept.size());
  num_rows_ = static_cast<int64_t>(kept.size());
}

void ForwardPass::KeepLogitRows() {
  std::vector<int32_t> kept(static_cast<size_t>(params_.num_logit_rows));
  std::iota(kept.begin(), kept.end(), static_cast<int32_t>(num_rows_ - params_.num_logit_rows));
  KeepRows(kept);
}

Status ForwardPass::Attend(int32_t index) {
  return kernels::AttentionRows({.layer = cache_->layer(index),
                                 .q = q_.data(),
                                 .positions = positions_.data(),
                                 .num_rows = num_rows_,
                                 .num_heads = config_.num_heads,
                                 .scale = config_.attention_scale,
                                 .window = config_.has_window(index) ? config_.sliding_window : 0,
                                 .logit_softcap = config_.attention_logit_softcap,
                                 .output = attended_.data()},
                                pool_);
}

Status ForwardPass::RunFfn(const LayerWeights& layer) {
  INTARSIA_RETURN_IF_ERROR(NormFor(*layer.gate_up, layer.ffn_norm));
  const int64_t hidden = config_.hidden_size;
  const int64_t ffn = config_.ffn_size;
  for (int64_t begin = 0, num_rows = 0; begin < num_rows_; begin += num_rows) {
    num_rows = std::min(kFfnRows, num_rows_ - begin);
    // A single row would go through the other kind of product, so it takes another one along.
    if (num_rows_ - begin - num_rows == 1) --num_rows;
    kernels::MatMulParams up = NormedInput(*layer.gate_up);
    if (up.x != nullptr) up.x += begin * hidden;
    if (up.x_bf16 != nullptr) up.x_bf16 += begin * hidden;
    up.y = gate_up_.data();
    up.num_rows = num_rows;
    INTARSIA_RETURN_IF_ERROR(layer.gate_up->Apply(up, pool_));
    const bool is_f32 = layer.down->WantsF32(num_rows);
    float* const f32 = is_f32 ? activated_.data() : nullptr;
    uint16_t* const bf16 = is_f32 ? nullptr : activated_bf16_.data();
    INTARSIA_RETURN_IF_ERROR(kernels::Activate({.kind = config_.activation,
                                                .x = gate_up_.data(),
                                                .up = gate_up_.data() + ffn,
                                                .x_stride = 2 * ffn,
                                                .y = f32,
                                                .y_bf16 = bf16,
                                                .num_rows = num_rows,
                                                .dim = ffn},
                                               pool_));
    INTARSIA_RETURN_IF_ERROR(layer.down->Apply(
        {.x = f32, .x_bf16 = bf16, .y = addend_.data() + begin * hidden, .num_rows = num_rows},
        pool_));
  }
  if (!layer.post_ffn_norm.empty()) {
    INTARSIA_RETURN_IF_ERROR(kernels::RmsNorm({.x = addend_.data(),
                                               .weight = layer.post_ffn_norm.data(),
                                               .y = addend_.data(),
                                               .num_rows = num_rows_,
                                               .dim = hidden,
                                               .epsilon = config_.norm_epsilon},
                                              pool_));
  }
  has_addend_ = true;
  return Status::Ok();
}

Result<std::vector<float>> ForwardPass::ComputeLogits() {
  const int64_t num_logit_rows = params_.num_logit_rows;
  const int64_t hidden = config_.hidden_size;
  const int64_t vocab = config_.vocab_size;
  std::vector<float> logits(static_cast<size_t>(num_logit_rows * vocab));
  if (num_logit_rows == 0) return logits;
  INTARSIA_CHECK(num_logit_rows <= num_rows_);
  const int64_t first = num_rows_ - num_logit_rows;
  float* const rows = hidden_.data() + first * hidden;
  INTARSIA_RETURN_IF_ERROR(kernels::RmsNorm({.x = rows,
                                             .addend = addend_.data() + first * hidden,
                                             .sum = rows,
                                             .weight = weights_.output_norm.data(),
                                             .y = normed_.data(),
                                             .num_rows = num_logit_rows,
                                             .dim = hidden,
                                             .epsilon = config_.norm_epsilon},
                                            pool_));
  for (int64_t begin = 0; begin < num_logit_rows; begin += kernels::kGemvRowsMax) {
    INTARSIA_RETURN_IF_ERROR(kernels::QuantizedGemv(
        {.type = weights_.head->type,
         .weights = weights_.head->bytes.data(),
         .num_outputs = vocab,
         .num_inputs = hidden,
         .x = normed_.data() + begin * hidden,
         .y = logits.data() + begin * vocab,
         .num_rows = std::min(kernels::kGemvRowsMax, num_logit_rows - begin)},
        pool_));
  }
  if (config_.final_logit_softcap > 0.0f) {
    kernels::Softcap(config_.final_logit_softcap, num_logit_rows * vocab, logits.data());
  }
  return logits;
}

}  // namespace intarsia::model
