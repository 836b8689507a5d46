// kv_form_errors: what the forms of KV caches change in the keys, values and attention of a model.
//
// Pieces of real text are run behind nothing else; every layer's keys and values are encoded,
// decoded and compared with what they were, and the attention of some tokens over their piece is
// computed with both. An error is the length of the difference over the length of the numbers,
// averaged over layers and pieces. CHECK MODEL measures what becomes of it in answers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/end_to_end/require.h"
#include "bench/end_to_end/sample_tokens.h"
#include "engine/kv_gate.h"
#include "kernels/kv_codec.h"
#include "kernels/rope.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/transformer.h"

namespace intarsia::bench {
namespace {

struct Arguments {
  std::string model;
  std::string text = ".";
  int64_t num_pieces = 4;
  int64_t piece_tokens = 256;
  int64_t row_stride = 8;
  int num_threads = 0;
};

struct Layer {
  std::vector<float> k;  // before rotation
  std::vector<float> v;
  std::vector<float> q;  // rotated
};

class Recorder : public model::LayerObserver {
 public:
  explicit Recorder(const model::ModelConfig& config)
      : config_(config), layers_(static_cast<size_t>(config.num_layers)) {}

  Status OnKeysAndValues(const model::LayerRows& rows, std::vector<int32_t>*) override {
    Layer& layer = layers_[static_cast<size_t>(rows.layer)];
    const int64_t count = std::ssize(rows.positions) * config_.kv_size();
    layer.k.assign(rows.k, rows.k + count);
    layer.v.assign(rows.v, rows.v + count);
    return Status::Ok();
  }
  Status OnQueries(const model::LayerQueries& rows) override {
    const int64_t width = int64_t{config_.num_heads} * config_.head_dim;
    layers_[static_cast<size_t>(rows.layer)].q.assign(rows.q,
                                                      rows.q + std::ssize(rows.positions) * width);
    return Status::Ok();
  }
  const std::vector<Layer>& layers() const { return layers_; }

 private:
  const model::ModelConfig& config_;
  std::vector<Layer> layers_;
};

double ErrorOf(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0.0;
  double length = 0.0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double difference = double{got[i]} - double{wanted[i]};
    error += difference * difference;
    length += double{wanted[i]} * double{wanted[i]};
  }
  return std::sqrt(error / length);
}

std::vector<float> Rotated(const model::Transformer& transformer, int32_t layer,
                           const std::vector<float>& k, int64_t num_tokens) {
  const model::ModelConfig& config = transformer.config();
  const kernels::RopeTable& table = transformer.rope(layer);
  const auto num_angles = static_cast<size_t>(num_tokens * table.rotary_dim() / 2);
  std::vector<float> cosines(num_angles);
  std::vector<float> sines(num_angles);
  std::vector<int32_t> positions(static_cast<size_t>(num_tokens));
  std::iota(positions.begin(), positions.end(), 0);
  Require(table.Fill(positions.data(), num_tokens, cosines.data(), sines.data()));
  std::vector<float> rotated(k.size());
  Require(kernels::ApplyRope({.x = k.data(),
                              .cosines = cosines.data(),
                              .sines = sines.data(),
                              .y = rotated.data(),
                              .num_tokens = num_tokens,
                              .num_heads = config.num_kv_heads,
                              .head_dim = config.head_dim,
                              .rotary_dim = table.rotary_dim(),
                              .pairing = config.rope_pairing},
                             /*pool=*/nullptr));
  return rotated;
}

// What every `stride`-th token gets from the attention over the tokens up to itself.
std::vector<float> Attend(const model::ModelConfig& config, const std::vector<float>& q,
                          const std::vector<float>& k, const std::vector<float>& v,
                          int64_t num_tokens, int64_t stride) {
  const int64_t dim = config.head_dim;
  const int64_t width = config.kv_size();
  const int64_t group = config.num_heads / config.num_kv_heads;
  std::vector<float> output;
  std::vector<double> weights(static_cast<size_t>(num_tokens));
  for (int64_t token = stride - 1; token < num_tokens; token += stride) {
    for (int64_t head = 0; head < config.num_heads; ++head) {
      const float* const query = q.data() + (token * config.num_heads + head) * dim;
      const int64_t column = head / group * dim;
      for (int64_t key = 0; key <= token; ++key) {
        const float* const row = k.data() + key * width + column;
        weights[static_cast<size_t>(key)] =
            std::inner_product(query, query + dim, row, 0.0) / std::sqrt(static_cast<double>(dim));
      }
      const double highest = *std::max_element(weights.begin(), weights.begin() + token + 1);
      double sum = 0.0;
      for (int64_t key = 0; key <= token; ++key) {
        weights[static_cast<size_t>(key)] = std::exp(weights[static_cast<size_t>(key)] - highest);
        sum += weights[static_cast<size_t>(key)];
      }
      std::vector<double> mixed(static_cast<size_t>(dim));
      for (int64_t key = 0; key <= token; ++key) {
        const float* const row = v.data() + key * width + column;
        const double share = weights[static_cast<size_t>(key)] / sum;
        for (int64_t i = 0; i < dim; ++i) mixed[static_cast<size_t>(i)] += share * row[i];
      }
      output.insert(output.end(), mixed.begin(), mixed.end());
    }
  }
  return output;
}

struct Errors {
  double k = 0.0;
  double v = 0.0;
  double attention = 0.0;
  double token_bytes = 0.0;
};

// Adds the errors of one layer in one form.
void Measure(const model::Transformer& transformer, int32_t index, const Layer& layer,
             engine::KvPayloadType form, const Arguments& arguments, Errors* errors) {
  const int64_t width = transformer.config().kv_size();
  const int64_t num_tokens = std::ssize(layer.k) / width;
  std::vector<uint8_t> payload(
      static_cast<size_t>(kernels::KvPayloadBytes(form, num_tokens, width)));
  Require(kernels::EncodeKv({.type = form,
                             .k = layer.k.data(),
                             .v = layer.v.data(),
                             .num_tokens = num_tokens,
                             .width = width,
                             .payload = payload.data(),
                             .payload_bytes = std::ssize(payload)}));
  std::vector<float> k(layer.k.size());
  std::vector<float> v(layer.v.size());
  for (const kernels::KvHalf half : {kernels::KvHalf::kKey, kernels::KvHalf::kValue}) {
    Require(kernels::DecodeKv({.type = form,
                               .payload = payload.data(),
                               .payload_bytes = std::ssize(payload),
                               .num_tokens = num_tokens,
                               .width = width,
                               .half = half,
                               .begin = 0,
                               .count = num_tokens,
                               .target = half == kernels::KvHalf::kKey ? k.data() : v.data()}));
  }
  const auto attend = [&](const std::vector<float>& keys, const std::vector<float>& values) {
    return Attend(transformer.config(), layer.q, Rotated(transformer, index, keys, num_tokens),
                  values, num_tokens, arguments.row_stride);
  };
  errors->k += ErrorOf(k, layer.k);
  errors->v += ErrorOf(v, layer.v);
  errors->attention += ErrorOf(attend(k, v), attend(layer.k, layer.v));
  errors->token_bytes += static_cast<double>(payload.size()) / static_cast<double>(num_tokens);
}

void Run(const Arguments& arguments) {
  ThreadPool pool(arguments.num_threads);
  const auto file = Require(model::GgufFile::Open(arguments.model, FileSystem::Local()));
  const auto tokenizer = Require(model::LoadTokenizer(*file));
  const auto transformer =
      Require(model::Transformer::Load(*file, {.compute = kernels::ComputeType::kF32}, &pool));
  const SampleTokens sample = Require(
      ReadSampleTokens(arguments.text, arguments.num_pieces * arguments.piece_tokens, *tokenizer));
  std::vector<Errors> all(engine::KvForms().size());
  std::vector<int32_t> positions(static_cast<size_t>(arguments.piece_tokens));
  std::iota(positions.begin(), positions.end(), 0);
  const model::ModelConfig& config = transformer->config();
  for (int64_t piece = 0; piece < arguments.num_pieces; ++piece) {
    const auto cache = Require(model::KvCache::Create(
        config, transformer->kv_type(), arguments.piece_tokens, transformer->memory_pool()));
    Recorder recorder(config);
    Require(transformer
                ->Forward({.tokens = std::span(sample.ids)
                                         .subspan(static_cast<size_t>(piece) * positions.size(),
                                                  positions.size()),
                           .positions = positions,
                           .num_logit_rows = 0,
                           .observer = &recorder},
                          cache.get())
                .status());
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      for (size_t form = 0; form < all.size(); ++form) {
        Measure(*transformer, layer, recorder.layers()[static_cast<size_t>(layer)],
                engine::KvForms()[form], arguments, &all[form]);
      }
    }
  }
  std::printf("%s; %s; %lld pieces of %lld tokens, every %lldth attends\n\n",
              arguments.model.substr(arguments.model.rfind('/') + 1).c_str(), sample.source.c_str(),
              static_cast<long long>(arguments.num_pieces),
              static_cast<long long>(arguments.piece_tokens),
              static_cast<long long>(arguments.row_stride));
  std::printf(
      "| form | bytes a token | error of K | of V | of attention |\n|---|---|---|---|---|\n");
  const double count = static_cast<double>(arguments.num_pieces) * config.num_layers;
  for (size_t form = 0; form < all.size(); ++form) {
    std::printf("| %s | %.0f | %.4f | %.4f | %.4f |\n",
                std::string(engine::KvFormName(engine::KvForms()[form])).c_str(),
                all[form].token_bytes / static_cast<double>(arguments.num_pieces),
                all[form].k / count, all[form].v / count, all[form].attention / count);
  }
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What the forms of KV caches change in a model's keys, values and attention.");
  app.add_option("--model", arguments.model, "GGUF file")->required()->check(CLI::ExistingFile);
  app.add_option("--text", arguments.text, "folder whose Markdown files are the text");
  app.add_option("--pieces", arguments.num_pieces, "pieces of text")->check(CLI::Range(1, 10'000));
  app.add_option("--tokens", arguments.piece_tokens, "tokens of a piece")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--stride", arguments.row_stride, "tokens from one that attends to the next")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--threads", arguments.num_threads, "0: all cores")->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  try {
    Run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kv_form_errors: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) { return intarsia::bench::Main(argc, argv); }
