#include "model/embedder_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace intarsia::model {
namespace {

using nlohmann::json;

constexpr int64_t kFileBytesMax = int64_t{1} << 20;
constexpr int32_t kHeadDimMax = 1024;

// The fields of one JSON object. A null counts as absent; the first field of a wrong type or out of
// range decides status(), which the caller reads once, at the end.
class Fields {
 public:
  Fields(json object, std::string path) : object_(std::move(object)), path_(std::move(path)) {}

  bool Has(const char* name) const { return Find(name) != nullptr; }

  int32_t Int(const char* name, int32_t smallest, int32_t largest) {
    const json* const value = Find(name);
    if (value != nullptr && value->is_number_integer()) {
      // A number above 2^63 would turn negative here, and is refused by the range all the same.
      const auto number = value->get<int64_t>();
      if (number >= smallest && number <= largest) return static_cast<int32_t>(number);
    }
    Fail(name, "is no integer of " + std::to_string(smallest) + " to " + std::to_string(largest));
    return smallest;
  }
  int32_t IntOr(const char* name, int32_t fallback, int32_t smallest, int32_t largest) {
    return Has(name) ? Int(name, smallest, largest) : fallback;
  }
  double NumberOr(const char* name, double fallback) {
    const json* const value = Find(name);
    if (value == nullptr) return fallback;
    if (value->is_number()) return value->get<double>();
    Fail(name, "is no number");
    return fallback;
  }
  bool BoolOr(const char* name, bool fallback) {
    const json* const value = Find(name);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    Fail(name, "is neither true nor false");
    return fallback;
  }
  // A string, or an object with the string "content", as tokens are written too.
  std::string StringOr(const char* name, std::string fallback) {
    const json* value = Find(name);
    if (value == nullptr) return fallback;
    if (value->is_object()) {
      const auto content = value->find("content");
      if (content != value->end()) value = &*content;
    }
    if (value->is_string()) return value->get<std::string>();
    Fail(name, "is no string");
    return fallback;
  }
  // The object `name`, empty if absent.
  Fields Object(const char* name) {
    const json* const value = Find(name);
    if (value != nullptr && !value->is_object()) Fail(name, "is no object");
    return {value != nullptr && value->is_object() ? *value : json::object(), path_};
  }

  Status Unsupported(const std::string& what) const {
    return {StatusCode::kUnsupported, what + " file=" + path_};
  }
  const Status& status() const { return status_; }

 private:
  const json* Find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  void Fail(const char* name, const std::string& problem) {
    if (!status_.ok()) return;
    status_ =
        Status(StatusCode::kCorruption, "field " + problem + ": field=" + name + " file=" + path_);
  }

  json object_;
  std::string path_;
  Status status_;
};

Result<json> ReadJson(const std::string& path, FileSystem* file_system) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string bytes, file_system->ReadAll(path, kFileBytesMax));
  json value = json::parse(bytes, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return Status(StatusCode::kCorruption, "file is no JSON: " + path);
  return value;
}

Result<Fields> ReadFields(const std::string& path, FileSystem* file_system) {
  INTARSIA_ASSIGN_OR_RETURN(json value, ReadJson(path, file_system));
  if (!value.is_object()) {
    return Status(StatusCode::kCorruption, "file holds no JSON object: " + path);
  }
  return Fields(std::move(value), path);
}

// An absent file has no fields.
Result<Fields> ReadOptionalFields(const std::string& path, FileSystem* file_system) {
  if (!file_system->Exists(path)) return Fields(json::object(), path);
  return ReadFields(path, file_system);
}

Result<BertConfig> ReadBertConfig(const std::string& folder, FileSystem* file_system) {
  INTARSIA_ASSIGN_OR_RETURN(Fields fields, ReadFields(folder + "/config.json", file_system));
  const std::string model_type = fields.StringOr("model_type", "");
  if (fields.status().ok() && model_type != "bert") {
    return fields.Unsupported("embedder is no BERT: model_type=" + model_type);
  }
  BertConfig config;
  config.num_layers = fields.Int("num_hidden_layers", 1, 256);
  config.hidden_size = fields.Int("hidden_size", 1, 16'384);
  config.num_heads = fields.Int("num_attention_heads", 1, 1'024);
  config.ffn_size = fields.Int("intermediate_size", 1, 131'072);
  config.vocab_size = fields.Int("vocab_size", 1, 4'000'000);
  config.num_positions = fields.Int("max_position_embeddings", 2, 1'000'000);
  config.num_segments = fields.IntOr("type_vocab_size", 2, 1, 1'000);
  config.norm_epsilon = static_cast<float>(fields.NumberOr("layer_norm_eps", 1e-12));
  const std::string activation = fields.StringOr("hidden_act", "gelu");
  const std::string positions = fields.StringOr("position_embedding_type", "absolute");
  const bool is_decoder = fields.BoolOr("is_decoder", false);
  INTARSIA_RETURN_IF_ERROR(fields.status());

  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh") {
    config.activation = kernels::Activation::kGeluTanh;
  } else if (activation != "gelu") {
    return fields.Unsupported("unknown activation of a BERT: hidden_act=" + activation);
  }
  if (positions != "absolute" || is_decoder) {
    return fields.Unsupported("BERT with relative positions or as a decoder:");
  }
  if (config.hidden_size % config.num_heads != 0 ||
      config.hidden_size / config.num_heads > kHeadDimMax || !(config.norm_epsilon >= 0.0f) ||
      !std::isfinite(config.norm_epsilon)) {
    return Status(StatusCode::kCorruption,
                  "sizes contradict each other: hidden_size=" + std::to_string(config.hidden_size) +
                      " num_attention_heads=" + std::to_string(config.num_heads) +
                      " folder=" + folder);
  }
  return config;
}

Status ReadTokenizerOptions(const std::string& folder, FileSystem* file_system,
                            EmbedderConfig* config) {
  INTARSIA_ASSIGN_OR_RETURN(Fields fields,
                            ReadOptionalFields(folder + "/tokenizer_config.json", file_system));
  WordPieceOptions& options = config->tokenizer;
  options.lower_case = fields.BoolOr("do_lower_case", true);
  options.strip_accents = fields.BoolOr("strip_accents", options.lower_case);
  options.split_cjk = fields.BoolOr("tokenize_chinese_chars", true);
  options.unk_token = fields.StringOr("unk_token", options.unk_token);
  options.cls_token = fields.StringOr("cls_token", options.cls_token);
  options.sep_token = fields.StringOr("sep_token", options.sep_token);
  options.pad_token = fields.StringOr("pad_token", options.pad_token);
  options.mask_token = fields.StringOr("mask_token", options.mask_token);
  // Where nothing was said, this is 10^30.
  const double model_max_length = fields.NumberOr("model_max_length", 1e30);
  INTARSIA_RETURN_IF_ERROR(fields.status());

  INTARSIA_ASSIGN_OR_RETURN(Fields sentence_fields,
                            ReadOptionalFields(folder + "/sentence_bert_config.json", file_system));
  const int32_t num_positions = config->bert.num_positions;
  config->max_tokens = num_positions;
  if (sentence_fields.Has("max_seq_length")) {
    config->max_tokens =
        std::min(num_positions, sentence_fields.Int("max_seq_length", 2, 1'000'000));
  } else if (model_max_length >= 2 && model_max_length < num_positions) {
    config->max_tokens = static_cast<int32_t>(model_max_length);
  }
  // Lower-cases before the tokenizer does, which is the same as lower-casing there.
  if (sentence_fields.BoolOr("do_lower_case", false)) options.lower_case = true;
  return sentence_fields.status();
}

// The folder of the pooling module; nullopt if modules.json names none.
Result<std::optional<std::string>> ReadModules(const std::string& folder, FileSystem* file_system) {
  const std::string path = folder + "/modules.json";
  if (!file_system->Exists(path)) return std::optional<std::string>("1_Pooling");
  INTARSIA_ASSIGN_OR_RETURN(const json modules, ReadJson(path, file_system));
  if (!modules.is_array()) {
    return Status(StatusCode::kCorruption, "file holds no JSON array: " + path);
  }
  std::optional<std::string> pooling;
  for (const json& module : modules) {
    if (!module.is_object()) {
      return Status(StatusCode::kCorruption, "module is no JSON object: " + path);
    }
    Fields fields(module, path);
    const std::string type = fields.StringOr("type", "");
    const std::string name = fields.StringOr("path", "");
    INTARSIA_RETURN_IF_ERROR(fields.status());
    const std::string_view kind = std::string_view(type).substr(type.rfind('.') + 1);
    if (kind == "Pooling") {
      if (name.empty() || name == "." || name == ".." ||
          name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
        std::string message = "module has no plain folder name: path=";
        message.append(name).append(" file=").append(path);
        return Status(StatusCode::kCorruption, std::move(message));
      }
      pooling = name;
    } else if (kind != "Transformer" && kind != "Normalize") {
      return fields.Unsupported("unknown module of an embedder: type=" + type);
    }
  }
  return pooling;
}

Status ReadPooling(const std::string& folder, FileSystem* file_system, EmbedderConfig* config) {
  INTARSIA_ASSIGN_OR_RETURN(const std::optional<std::string> name,
                            ReadModules(folder, file_system));
  if (!name.has_value()) {
    return {StatusCode::kUnsupported, "modules.json names no pooling: folder=" + folder};
  }
  std::string path = folder;
  path.append("/").append(*name).append("/config.json");
  INTARSIA_ASSIGN_OR_RETURN(Fields fields, ReadOptionalFields(path, file_system));
  // Older files have a switch for each way, newer ones may have one name.
  const std::string mode = fields.StringOr("pooling_mode", "");
  const bool is_cls = fields.BoolOr("pooling_mode_cls_token", mode == "cls");
  const bool is_mean = fields.BoolOr("pooling_mode_mean_tokens", !is_cls && mode.empty());
  bool is_other = !mode.empty() && mode != "cls" && mode != "mean";
  for (const char* other : {"pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
                            "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"}) {
    is_other = fields.BoolOr(other, false) || is_other;
  }
  const bool includes_prompt = fields.BoolOr("include_prompt", true);
  INTARSIA_RETURN_IF_ERROR(fields.status());
  const bool is_mean_wanted = is_mean || mode == "mean";
  if (is_other || is_cls == is_mean_wanted) {
    return fields.Unsupported("pooling is neither by mean nor by the first token:");
  }
  if (!includes_prompt && !(config->query_prompt.empty() && config->document_prompt.empty())) {
    return fields.Unsupported("pooling that leaves out the prompt:");
  }
  config->pooling = is_cls ? Pooling::kClsToken : Pooling::kMean;
  return Status::Ok();
}

Status ReadPrompts(const std::string& folder, FileSystem* file_system, EmbedderConfig* config) {
  INTARSIA_ASSIGN_OR_RETURN(
      Fields fields,
      ReadOptionalFields(folder + "/config_sentence_transformers.json", file_system));
  Fields prompts = fields.Object("prompts");
  INTARSIA_RETURN_IF_ERROR(fields.status());
  config->query_prompt = prompts.StringOr("query", "");
  config->document_prompt = prompts.StringOr("document", prompts.StringOr("passage", ""));
  return prompts.status();
}

}  // namespace

Result<EmbedderConfig> ReadEmbedderConfig(const std::string& folder, FileSystem* file_system) {
  EmbedderConfig config;
  INTARSIA_ASSIGN_OR_RETURN(config.bert, ReadBertConfig(folder, file_system));
  INTARSIA_RETURN_IF_ERROR(ReadTokenizerOptions(folder, file_system, &config));
  INTARSIA_RETURN_IF_ERROR(ReadPrompts(folder, file_system, &config));
  INTARSIA_RETURN_IF_ERROR(ReadPooling(folder, file_system, &config));
  return config;
}

}  // namespace intarsia::model
