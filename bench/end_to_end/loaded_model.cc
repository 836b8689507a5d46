#include "bench/end_to_end/loaded_model.h"

#include <fstream>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/stopwatch.h"
#include "bench/end_to_end/model_costs.h"
#include "bench/end_to_end/require.h"

namespace intarsia::bench {
namespace {

std::string CpuName() {
  std::ifstream facts("/proc/cpuinfo");
  for (std::string line; std::getline(facts, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

// "auto": as the engine would choose.
kernels::ComputeType ComputeOf(std::string_view name) {
  if (name == "int8") return kernels::ComputeType::kInt8;
  const bool is_bf16 = name == "bf16" || (name == "auto" && kernels::HasFastBf16());
  return is_bf16 ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
}

const char* ComputeName(kernels::ComputeType compute) {
  switch (compute) {
    case kernels::ComputeType::kInt8:
      return "int8";
    case kernels::ComputeType::kBf16:
      return "bf16";
    default:
      return "f32";
  }
}

}  // namespace

LoadedModel::LoadedModel(const LoadedModelOptions& options)
    : out_(options.out), pool_(options.num_threads) {
  file_ = Require(model::GgufFile::Open(options.model, FileSystem::Local()));
  tokenizer_ = Require(model::LoadTokenizer(*file_));
  const auto compute = ComputeOf(options.compute);
  const Stopwatch loading;
  transformer_ = Require(model::Transformer::Load(*file_, {.compute = compute}, &pool_));
  const double load_seconds = loading.seconds();
  sample_ = Require(ReadSampleTokens(options.text, options.num_sample_tokens, *tokenizer_));
  roof_ = Require(MeasureProductRoof(compute, &pool_));
  facts_ = {{"model", options.model.substr(options.model.rfind('/') + 1)},
            {"architecture", config().architecture},
            {"compute", ComputeName(compute)},
            {"threads", pool_.num_threads()},
            {"cpu", CpuName()},
            {"tokens_from", sample_.source},
            {"load_seconds", load_seconds},
            {"packed_bytes", transformer_->memory().packed_bytes},
            {"mapped_bytes", transformer_->memory().mapped_bytes},
            {"product_roof_flops", roof_}};
  std::fprintf(out_, "%s, %s, %d threads, %s; %s; loaded in %.2f s; product roof %.0f GFLOP/s\n",
               facts_["model"].get<std::string>().c_str(), ComputeName(compute),
               pool_.num_threads(), facts_["cpu"].get<std::string>().c_str(),
               sample_.source.c_str(), load_seconds, roof_ / 1e9);
}

bool LoadedModel::Fits(int64_t num_tokens) const {
  if (num_tokens <= config().context_length) return true;
  std::fprintf(out_, "%lld tokens are more than the model's context of %d: left out\n",
               static_cast<long long>(num_tokens), config().context_length);
  return false;
}

int64_t LoadedModel::PaperBytes(int64_t num_tokens, int64_t num_rows) const {
  return transformer_->memory().packed_bytes + transformer_->memory().mapped_bytes +
         KvBytes(config(), transformer_->kv_type(), num_tokens) +
         WorkspaceBytes(config(), num_rows);
}

double LoadedModel::FullPrefill(std::span<const int32_t> tokens) const {
  const Stopwatch stopwatch;
  const auto cache = Require(model::KvCache::Create(
      config(), transformer_->kv_type(), std::ssize(tokens), transformer_->memory_pool()));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  Require(transformer_->Forward({.tokens = tokens, .positions = positions}, cache.get())).clear();
  return stopwatch.milliseconds();
}

}  // namespace intarsia::bench
