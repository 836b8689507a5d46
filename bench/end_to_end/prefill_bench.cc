// prefill_bench: full prefill, decoding and fused time to first token of a real model.
//
// Everything is measured in one process, and fused prompts in rounds with our own full prefill of
// the same prompt, so that a ratio compares neighbours. Each case runs once to warm up (oneDNN
// generates code for a new number of rows; that first time is reported beside the others), then
// `--repetitions` times; the median counts, with the coefficient of variation (CV) beside it.
// Beside FLOP/s stands the share of what one large product reaches on this machine in this run.
// Tiers of the caches: memory; the store with its pages in the page cache ("warm"); the store with
// its pages dropped ("cold", with the share of pages that the system kept all the same).
// A program and not a Google Benchmark, because its cases share models and caches, and one case
// takes seconds. tools/quality_report.py plots what --json writes.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/stopwatch.h"
#include "bench/end_to_end/fused_part.h"
#include "bench/end_to_end/loaded_model.h"
#include "bench/end_to_end/model_costs.h"
#include "bench/end_to_end/process_memory.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/samples.h"
#include "bench/end_to_end/times.h"
#include "kernels/softmax.h"

namespace intarsia::bench {
namespace {

constexpr const char* kDefaultModel = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

struct Arguments {
  LoadedModelOptions loaded = {.model = kDefaultModel};
  FusedPartOptions fused;
  std::string json;
  std::vector<std::string> parts = {"prefill", "decode", "fused"};
  std::vector<int64_t> lengths = {512, 2048, 4096, 6144};
  std::vector<int64_t> contexts = {4096};
  int64_t decode_context = 512;
  int64_t decode_tokens = 64;
  int repetitions = 5;

  bool Wants(std::string_view part) const { return std::ranges::count(parts, part) > 0; }
};

// The same with what the options of a part take from others.
Arguments Completed(Arguments arguments) {
  const int64_t longest =
      std::max({*std::ranges::max_element(arguments.lengths),
                *std::ranges::max_element(arguments.contexts), arguments.decode_context});
  arguments.loaded.num_sample_tokens = longest + arguments.fused.question_tokens;
  arguments.loaded.out = arguments.json == "-" ? stderr : stdout;
  arguments.fused.room_tokens = arguments.decode_tokens;
  arguments.fused.repetitions = arguments.repetitions;
  return arguments;
}

class PrefillBench {
 public:
  explicit PrefillBench(Arguments arguments)
      : arguments_(Completed(std::move(arguments))),
        model_(arguments_.loaded),
        report_(model_.facts()) {}

  void Run() {
    if (arguments_.Wants("prefill")) {
      for (const int64_t length : arguments_.lengths) MeasurePrefill(length);
    }
    if (arguments_.Wants("decode")) MeasureDecode();
    if (arguments_.Wants("fused")) {
      for (const int64_t context : arguments_.contexts) {
        nlohmann::json row = MeasureFused(model_, arguments_.fused, context);
        if (!row.is_null()) report_["fused"].push_back(std::move(row));
      }
    }
    if (arguments_.json == "-") {
      std::cout << report_.dump(1) << "\n";
    } else if (!arguments_.json.empty()) {
      Require(FileSystem::Local()->WriteAtomically(arguments_.json, report_.dump(1) + "\n"));
    }
  }

 private:
  void MeasurePrefill(int64_t num_tokens) {
    if (!model_.Fits(num_tokens)) return;
    Times times;
    ResetPeakResidentBytes();
    times.Add(model_.FullPrefill(model_.Sample(num_tokens)));
    const int64_t peak = PeakResidentBytes();
    for (int run = 0; run < arguments_.repetitions; ++run) {
      times.Add(model_.FullPrefill(model_.Sample(num_tokens)));
    }
    const int64_t paper = model_.PaperBytes(num_tokens, num_tokens);
    const double seconds = times.median() / 1e3;
    const double flops = PrefillFlops(model_.config(), num_tokens) / seconds;
    std::fprintf(model_.out(),
                 "prefill %5lld tokens: %7.1f tokens/s, %8.1f ms (CV %.1f %%, first %.1f ms), "
                 "%.0f GFLOP/s = %.0f %% of the roof; peak %.0f MB, paper need %.0f MB\n",
                 static_cast<long long>(num_tokens), static_cast<double>(num_tokens) / seconds,
                 times.median(), 100.0 * VariationOf(times.ms), times.first_ms, flops / 1e9,
                 100.0 * flops / model_.roof(), Megabytes(peak), Megabytes(paper));
    nlohmann::json row = times.ToJson();
    row.update(nlohmann::json{{"tokens", num_tokens},
                              {"tokens_per_s", static_cast<double>(num_tokens) / seconds},
                              {"flops", flops},
                              {"roof_share", flops / model_.roof()},
                              {"peak_bytes", peak},
                              {"paper_bytes", paper}});
    report_["prefill"].push_back(row);
  }

  // Greedy decoding behind a prompt; each round is one series of tokens.
  void MeasureDecode() {
    const int64_t context = arguments_.decode_context;
    const int64_t count = arguments_.decode_tokens;
    if (!model_.Fits(context + count)) return;
    const auto cache = Require(
        model::KvCache::Create(model_.config(), model_.transformer().kv_type(), context + count));
    std::vector<int32_t> positions(static_cast<size_t>(context));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<float> prompt_logits = Require(model_.transformer().Forward(
        {.tokens = model_.Sample(context), .positions = positions}, cache.get()));
    Times times;
    for (int run = 0; run <= arguments_.repetitions; ++run) {
      std::vector<float> logits = prompt_logits;
      const Stopwatch stopwatch;
      for (int64_t step = 0; step < count; ++step) {
        const auto token = static_cast<int32_t>(kernels::ArgMax(logits.data(), std::ssize(logits)));
        const auto position = static_cast<int32_t>(context + step);
        logits = Require(model_.transformer().Forward(
            {.tokens = {&token, 1}, .positions = {&position, 1}}, cache.get()));
      }
      times.Add(stopwatch.milliseconds() / static_cast<double>(count));
    }
    const double tokens_per_s = 1e3 / times.median();
    // A token reads the weights and the keys and values before it.
    const auto bytes = static_cast<double>(
        model_.transformer().memory().mapped_bytes +
        KvBytes(model_.config(), model_.transformer().kv_type(), context + count / 2));
    std::fprintf(model_.out(),
                 "decode at %lld tokens: %.1f tokens/s, %.2f ms (CV %.1f %%), %.1f GB/s\n",
                 static_cast<long long>(context), tokens_per_s, times.median(),
                 100.0 * VariationOf(times.ms), bytes * tokens_per_s / 1e9);
    report_["decode"] = times.ToJson();
    report_["decode"].update(nlohmann::json{{"context", context},
                                            {"tokens", count},
                                            {"tokens_per_s", tokens_per_s},
                                            {"bytes_per_s", bytes * tokens_per_s}});
  }

  const Arguments arguments_;
  const LoadedModel model_;
  nlohmann::json report_;
};

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Full prefill, decoding and fused time to first token of a real model.");
  const auto* model = app.add_option("--model", arguments.loaded.model, "GGUF file");
  app.add_option("--text", arguments.loaded.text, "folder whose Markdown files are the text");
  app.add_option("--json", arguments.json, "where to write the figures; -: standard output");
  app.add_option("--compute", arguments.loaded.compute, "auto, int8, bf16 or f32")
      ->check(CLI::IsMember({"auto", "int8", "bf16", "f32"}));
  app.add_option("--parts", arguments.parts, "what to measure: prefill, decode, fused")
      ->delimiter(',')
      ->check(CLI::IsMember({"prefill", "decode", "fused"}));
  app.add_option("--lengths", arguments.lengths, "full prefill: numbers of tokens")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--contexts", arguments.contexts, "fused: numbers of tokens in chunks")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--ratios", arguments.fused.ratios, "fused: shares of rows to recompute")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--tiers", arguments.fused.tiers, "fused: memory, warm, cold")
      ->delimiter(',')
      ->check(CLI::IsMember({"memory", "warm", "cold"}));
  app.add_option("--selector", arguments.fused.selector, "fused: which rows");
  app.add_option("--probes", arguments.fused.probes, "fused: when evenly spaced rows are computed")
      ->check(CLI::IsMember({"with_rows", "with_question", "with_question_only"}));
  app.add_option("--propagate", arguments.fused.propagate, "fused: off, two_sided, causal")
      ->check(CLI::IsMember({"off", "two_sided", "causal"}));
  app.add_option("--chunk-tokens", arguments.fused.chunk_tokens, "fused: tokens of a chunk")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--question-tokens", arguments.fused.question_tokens,
                 "fused: tokens of the question")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--decode-context", arguments.decode_context, "decode: tokens before")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--decode-tokens", arguments.decode_tokens, "decode: tokens of a series")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--repetitions", arguments.repetitions, "measured runs of each case")
      ->check(CLI::Range(1, 1000));
  app.add_option("--threads", arguments.loaded.num_threads, "0: all cores")
      ->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  if (model->count() == 0 && !FileSystem::Local()->Exists(arguments.loaded.model)) {
    std::fprintf(stderr, "no %s, so nothing is measured; get it with tools/fetch_models.sh\n",
                 arguments.loaded.model.c_str());
    return 0;
  }
  PrefillBench(std::move(arguments)).Run();
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) {
  try {
    return intarsia::bench::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "prefill_bench: %s\n", error.what());
    return 1;
  }
}
