// compute_quality: what bf16 and int8 products change in the next token, against f32.
//
// Windows of real text are prefilled once with each compute type. For the last tokens of each
// window: KL of the next token's distribution from the one that f32 products give, the share of
// tokens whose first choice is the same, and the loss on the text itself.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/end_to_end/next_token_quality.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/sample_tokens.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/transformer.h"

namespace intarsia::bench {
namespace {

using kernels::ComputeType;

struct Arguments {
  std::string model = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  std::string text = "docs";
  int64_t num_windows = 8;
  int64_t window_tokens = 512;
  int32_t num_rows = 128;
  int num_threads = 0;
};

struct Compared {
  NextTokenQuality quality;
  std::unique_ptr<model::Transformer> transformer;
};

// Logits [num_rows, vocab_size] of the last rows of a prompt.
std::vector<float> Logits(const model::Transformer& transformer, std::span<const int32_t> tokens,
                          int32_t num_rows) {
  const auto cache = Require(
      model::KvCache::Create(transformer.config(), transformer.kv_type(), std::ssize(tokens)));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  return Require(transformer.Forward(
      {.tokens = tokens, .positions = positions, .num_logit_rows = num_rows}, cache.get()));
}

void Compare(const Arguments& arguments) {
  ThreadPool pool(arguments.num_threads);
  const auto file = Require(model::GgufFile::Open(arguments.model, FileSystem::Local()));
  const auto tokenizer = Require(model::LoadTokenizer(*file));
  const SampleTokens sample = Require(ReadSampleTokens(
      arguments.text, arguments.num_windows * arguments.window_tokens + 1, *tokenizer));
  std::vector<Compared> all;
  for (const auto& [name, type] :
       {std::pair("f32", ComputeType::kF32), std::pair("bf16", ComputeType::kBf16),
        std::pair("int8", ComputeType::kInt8)}) {
    auto transformer = model::Transformer::Load(*file, {.compute = type}, &pool);
    if (transformer.status().code() == StatusCode::kUnsupported) continue;
    all.push_back({NextTokenQuality(name), Require(std::move(transformer))});
  }
  std::printf("%s; %s; %lld windows of %lld tokens, the last %d of each\n\n",
              arguments.model.substr(arguments.model.rfind('/') + 1).c_str(), sample.source.c_str(),
              static_cast<long long>(arguments.num_windows),
              static_cast<long long>(arguments.window_tokens), arguments.num_rows);
  for (int64_t window = 0; window < arguments.num_windows; ++window) {
    const int64_t begin = window * arguments.window_tokens;
    const std::span<const int32_t> tokens =
        std::span(sample.ids)
            .subspan(static_cast<size_t>(begin), static_cast<size_t>(arguments.window_tokens));
    std::vector<float> reference;
    for (Compared& compared : all) {
      const std::vector<float> logits = Logits(*compared.transformer, tokens, arguments.num_rows);
      if (reference.empty()) reference = logits;
      const int64_t next = begin + arguments.window_tokens - arguments.num_rows + 1;
      compared.quality.AddAll(
          reference, logits,
          std::span(sample.ids)
              .subspan(static_cast<size_t>(next), static_cast<size_t>(arguments.num_rows)));
    }
  }
  NextTokenQuality::ReportHeading("f32");
  for (const Compared& compared : all) compared.quality.Report();
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What bf16 and int8 products change in the next token, against f32.");
  app.add_option("--model", arguments.model, "GGUF file")->check(CLI::ExistingFile);
  app.add_option("--text", arguments.text, "folder whose Markdown files are the text");
  app.add_option("--windows", arguments.num_windows, "pieces of text")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--tokens", arguments.window_tokens, "tokens of a piece")
      ->check(CLI::Range(2, 1 << 16));
  app.add_option("--rows", arguments.num_rows, "tokens of a piece that are compared")
      ->check(CLI::Range(1, 1 << 12));
  app.add_option("--threads", arguments.num_threads, "0: all cores")->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  if (arguments.num_rows > arguments.window_tokens) {
    std::fprintf(stderr, "compute_quality: --rows must not be above --tokens\n");
    return 2;
  }
  Compare(arguments);
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
