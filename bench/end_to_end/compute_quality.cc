// compute_quality: what bf16 and int8 products change in the next token, against f32.
//
// Windows of real text are prefilled once with each compute type. For the last tokens of each
// window: KL of the next token's distribution from the one that f32 products give, the share of
// tokens whose first choice is the same, and the loss on the text itself.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/end_to_end/require.h"
#include "bench/end_to_end/window_comparison.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/transformer.h"

namespace intarsia::bench {
namespace {

using kernels::ComputeType;

// Logits [num_rows, vocab_size] of the last rows of a prompt.
std::vector<float> Logits(const model::Transformer& transformer, std::span<const int32_t> tokens,
                          int64_t num_rows) {
  const auto cache = Require(
      model::KvCache::Create(transformer.config(), transformer.kv_type(), std::ssize(tokens)));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  return Require(transformer.Forward(
      {.tokens = tokens, .positions = positions, .num_logit_rows = static_cast<int32_t>(num_rows)},
      cache.get()));
}

void Compare(const WindowOptions& options, int num_threads) {
  ThreadPool pool(num_threads);
  const auto file = Require(model::GgufFile::Open(options.model, FileSystem::Local()));
  const auto tokenizer = Require(model::LoadTokenizer(*file));
  const SampleTokens sample = Require(ReadWindows(options, *tokenizer));
  std::vector<std::unique_ptr<model::Transformer>> transformers;
  std::vector<ComparedWay> ways;
  for (const auto& [name, type] :
       {std::pair("f32", ComputeType::kF32), std::pair("bf16", ComputeType::kBf16),
        std::pair("int8", ComputeType::kInt8)}) {
    auto loaded = model::Transformer::Load(*file, {.compute = type}, &pool);
    if (loaded.status().code() == StatusCode::kUnsupported) continue;
    const auto& transformer = transformers.emplace_back(Require(std::move(loaded)));
    ways.push_back({NextTokenQuality(name), std::bind_front(Logits, std::cref(*transformer))});
  }
  PrintWindows(options, sample, "");
  CompareWindows(options, sample, "f32", &ways);
}

int Main(int argc, char** argv) {
  WindowOptions options;
  int num_threads = 0;
  CLI::App app("What bf16 and int8 products change in the next token, against f32.");
  AddWindowOptions(&app, &options);
  app.add_option("--threads", num_threads, "0: all cores")->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  Compare(options, num_threads);
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) {
  try {
    return intarsia::bench::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "compute_quality: %s\n", error.what());
    return 1;
  }
}
