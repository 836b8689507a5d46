#include "model/model_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace intarsia::model {
namespace {

// Reads `<architecture>.<key>` values of one file.
class Reader {
 public:
  Reader(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  Result<int32_t> Count(const std::string& key, int64_t max) const {
    INTARSIA_ASSIGN_OR_RETURN(const int64_t value, file_.GetInt(Key(key)));
    if (value < 1 || value > max) return OutOfRange(key, std::to_string(value));
    return static_cast<int32_t>(value);
  }
  Result<int32_t> CountOr(const std::string& key, int64_t max, int32_t fallback) const {
    return file_.Has(Key(key)) ? Count(key, max) : Result<int32_t>(fallback);
  }
  Result<float> PositiveOr(const std::string& key, float fallback) const {
    if (!file_.Has(Key(key))) return fallback;
    INTARSIA_ASSIGN_OR_RETURN(const double value, file_.GetFloat(Key(key)));
    if (!(value >= 0.0) || value > 1e9) return OutOfRange(key, std::to_string(value));
    return static_cast<float>(value);
  }
  Result<std::string> TextOr(const std::string& key, std::string_view fallback) const {
    if (!file_.Has(Key(key))) return std::string(fallback);
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view value, file_.GetString(Key(key)));
    return std::string(value);
  }

 private:
  std::string Key(const std::string& key) const { return architecture_ + "." + key; }
  Status OutOfRange(const std::string& key, const std::string& value) const {
    return Status(StatusCode::kCorruption,
                  "model file has an absurd value: key=" + Key(key) + " value=" + value);
  }

  const GgufFile& file_;
  const std::string architecture_;
};

constexpr int64_t kLayersMax = 1'024;
constexpr int64_t kWidthMax = 1 << 20;
constexpr int64_t kVocabularyMax = 1 << 24;

Status ReadSizes(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  INTARSIA_ASSIGN_OR_RETURN(config->num_layers, reader.Count("block_count", kLayersMax));
  INTARSIA_ASSIGN_OR_RETURN(config->hidden_size, reader.Count("embedding_length", kWidthMax));
  INTARSIA_ASSIGN_OR_RETURN(config->ffn_size, reader.Count("feed_forward_length", kWidthMax));
  INTARSIA_ASSIGN_OR_RETURN(config->num_heads, reader.Count("attention.head_count", kWidthMax));
  INTARSIA_ASSIGN_OR_RETURN(config->num_kv_heads, reader.CountOr("attention.head_count_kv",
                                                                 kWidthMax, config->num_heads));
  INTARSIA_ASSIGN_OR_RETURN(
      config->head_dim,
      reader.CountOr("attention.key_length", kWidthMax, config->hidden_size / config->num_heads));
  INTARSIA_ASSIGN_OR_RETURN(const int32_t value_dim,
                            reader.CountOr("attention.value_length", kWidthMax, config->head_dim));
  INTARSIA_ASSIGN_OR_RETURN(
      config->context_length,
      reader.Count("context_length", std::numeric_limits<int32_t>::max() / 2));
  INTARSIA_ASSIGN_OR_RETURN(config->norm_epsilon,
                            reader.PositiveOr("attention.layer_norm_rms_epsilon", 1e-6f));
  INTARSIA_ASSIGN_OR_RETURN(const GgufTensor* embedding, file.GetTensor("token_embd.weight"));
  if (embedding->shape.size() != 2 || embedding->shape[0] != config->hidden_size ||
      embedding->shape[1] < 1 || embedding->shape[1] > kVocabularyMax) {
    return Status(StatusCode::kCorruption, "token_embd.weight has another shape than the model");
  }
  config->vocab_size = static_cast<int32_t>(embedding->shape[1]);
  if (config->num_heads % config->num_kv_heads != 0 || value_dim != config->head_dim ||
      config->head_dim < 16 || config->head_dim % 16 != 0 || config->head_dim > 256) {
    return Status(StatusCode::kUnsupported,
                  "attention shape is not supported: heads=" + std::to_string(config->num_heads) +
                      " kv_heads=" + std::to_string(config->num_kv_heads) + " head_dim=" +
                      std::to_string(config->head_dim) + " value_dim=" + std::to_string(value_dim));
  }
  config->attention_scale = 1.0f / std::sqrt(static_cast<float>(config->head_dim));
  return Status::Ok();
}

Status ReadRope(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  kernels::RopeOptions& rope = config->rope;
  INTARSIA_ASSIGN_OR_RETURN(
      rope.rotary_dim, reader.CountOr("rope.dimension_count", config->head_dim, config->head_dim));
  INTARSIA_ASSIGN_OR_RETURN(const float base, reader.PositiveOr("rope.freq_base", 10'000.0f));
  rope.base = base;
  INTARSIA_ASSIGN_OR_RETURN(const std::string scaling, reader.TextOr("rope.scaling.type", "none"));
  if (scaling == "linear") {
    INTARSIA_ASSIGN_OR_RETURN(const float factor, reader.PositiveOr("rope.scaling.factor", 1.0f));
    rope.scaling = kernels::RopeScaling::kLinear;
    rope.factor = factor;
  } else if (scaling != "none") {
    return Status(StatusCode::kUnsupported, "RoPE scaling is not supported: " + scaling);
  }
  // Llama 3 files carry its scaling as one divisor a frequency.
  if (const auto found = file.GetTensor("rope_freqs.weight"); found.ok()) {
    const GgufTensor* const factors = *found;
    if (factors->num_elements() != rope.rotary_dim / 2) {
      return Status(StatusCode::kCorruption, "rope_freqs.weight has another shape than the model");
    }
    rope.frequency_divisors.resize(static_cast<size_t>(factors->num_elements()));
    INTARSIA_RETURN_IF_ERROR(kernels::Dequantize(factors->type, factors->bytes.data(),
                                                 factors->num_elements(),
                                                 rope.frequency_divisors.data()));
  }
  return Status::Ok();
}

Status ApplyFamily(const Reader& reader, ModelConfig* config) {
  if (config->architecture == "llama") {
    config->rope_pairing = kernels::RopePairing::kInterleaved;
    return Status::Ok();
  }
  config->rope_pairing = kernels::RopePairing::kHalfSplit;
  if (config->architecture != "gemma3") return Status::Ok();
  config->activation = kernels::Activation::kGeluTanh;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden_size));
  INTARSIA_ASSIGN_OR_RETURN(config->sliding_window,
                            reader.CountOr("attention.sliding_window", kWidthMax, 0));
  config->window_period = 6;  // Gemma 3 technical report, section 2: five local layers, one global.
  // The 27B model alone scales by hidden_size / num_heads instead of head_dim.
  if (config->num_layers == 62) {
    config->attention_scale = 1.0f / std::sqrt(static_cast<float>(config->hidden_size) /
                                               static_cast<float>(config->num_heads));
  }
  INTARSIA_ASSIGN_OR_RETURN(config->final_logit_softcap,
                            reader.PositiveOr("final_logit_softcapping", 0.0f));
  INTARSIA_ASSIGN_OR_RETURN(config->attention_logit_softcap,
                            reader.PositiveOr("attn_logit_softcapping", 0.0f));
  config->rope_windowed = config->rope;
  config->rope_windowed.base = 10'000.0;
  config->rope_windowed.scaling = kernels::RopeScaling::kNone;
  return Status::Ok();
}

}  // namespace

Result<ModelConfig> ModelConfig::FromGguf(const GgufFile& file) {
  constexpr std::array<std::string_view, 4> kFamilies = {"llama", "qwen2", "qwen3", "gemma3"};
  ModelConfig config;
  INTARSIA_ASSIGN_OR_RETURN(const std::string_view architecture,
                            file.GetString("general.architecture"));
  config.architecture = std::string(architecture);
  bool is_known = false;
  for (const std::string_view family : kFamilies) is_known |= family == architecture;
  if (!is_known) {
    return Status(StatusCode::kUnsupported,
                  "model family is not supported: " + config.architecture +
                      " (supported: llama, qwen2, qwen3, gemma3)");
  }
  if (const auto name = file.GetString("general.name"); name.ok()) config.name = *name;
  const Reader reader(file, config.architecture);
  INTARSIA_RETURN_IF_ERROR(ReadSizes(reader, file, &config));
  INTARSIA_RETURN_IF_ERROR(ReadRope(reader, file, &config));
  INTARSIA_RETURN_IF_ERROR(ApplyFamily(reader, &config));
  return config;
}

Digest ModelConfig::digest() const {
  DigestBuilder builder;
  builder.Add("model config 1").Add(architecture);
  for (const int64_t value :
       {num_layers, hidden_size, num_heads, num_kv_heads, head_dim, ffn_size, vocab_size,
        sliding_window, window_period, static_cast<int32_t>(activation)}) {
    builder.Add(value);
  }
  const auto add_number = [&builder](double value) { builder.Add(std::to_string(value)); };
  add_number(static_cast<double>(norm_epsilon) * 1e6);
  add_number(attention_scale);
  add_number(embedding_scale);
  add_number(attention_logit_softcap);
  builder.Add(static_cast<int64_t>(rope_pairing));
  for (const kernels::RopeOptions* params : {&rope, &rope_windowed}) {
    builder.Add(params->rotary_dim).Add(static_cast<int64_t>(params->scaling));
    add_number(params->base);
    add_number(params->factor);
    for (const float factor : params->frequency_divisors) add_number(factor);
  }
  return builder.Finish();
}

}  // namespace intarsia::model
