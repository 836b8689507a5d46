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
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/stopwatch.h"
#include "bench/end_to_end/model_costs.h"
#include "bench/end_to_end/process_memory.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/sample_tokens.h"
#include "bench/end_to_end/samples.h"
#include "bench/end_to_end/stored_chunks.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "kernels/softmax.h"
#include "model/chat_format.h"
#include "model/tokenizer.h"
#include "model/transformer.h"

namespace intarsia::bench {
namespace {

constexpr std::string_view kDefaultModel = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr double kMegabyte = 1e6;

struct Arguments {
  std::string model{kDefaultModel};
  std::string text = "docs";
  std::string json;
  std::string compute = "auto";
  std::string selector = "attention";
  std::string propagate = "two_sided";
  std::string probes = "with_rows";
  std::vector<std::string> parts = {"prefill", "decode", "fused"};
  std::vector<int64_t> lengths = {512, 2048, 4096, 6144};
  std::vector<int64_t> contexts = {4096};
  std::vector<double> ratios = {0.0, 0.05, 0.15, 0.30};
  std::vector<std::string> tiers = {"memory", "warm", "cold"};
  int64_t chunk_tokens = 512;
  int64_t question_tokens = 64;
  int64_t decode_context = 512;
  int64_t decode_tokens = 64;
  int repetitions = 5;
  int num_threads = 0;

  bool Wants(std::string_view part) const { return std::ranges::count(parts, part) > 0; }
};

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

double Megabytes(int64_t num_bytes) { return static_cast<double>(num_bytes) / kMegabyte; }

// The first run, which warms up, and the others.
struct Times {
  double first_ms = -1.0;
  std::vector<double> ms;

  void Add(double milliseconds) {
    if (first_ms < 0.0) {
      first_ms = milliseconds;
    } else {
      ms.push_back(milliseconds);
    }
  }
  double median() const { return MedianOf(ms); }
  nlohmann::json ToJson() const {
    return {{"median_ms", median()}, {"cv", VariationOf(ms)}, {"first_ms", first_ms}, {"ms", ms}};
  }
};

// The parts of a fused time to first token, over the runs of one tier and ratio.
struct FusedCase {
  std::string tier;
  double ratio = 0.0;
  Times total;
  std::vector<double> speedups;  // against the full prefill of the same round
  std::vector<double> question_ms, solve_ms, load_ms, wait_ms, rows_ms;
  int64_t recomputed_tokens = 0;
  int64_t peak_bytes = 0;
  double page_cache_share_max = 0.0;  // cold: what the system kept
};

class PrefillBench {
 public:
  explicit PrefillBench(const Arguments& arguments)
      : arguments_(arguments),
        out_(arguments.json == "-" ? stderr : stdout),
        pool_(arguments.num_threads) {
    file_ = Require(model::GgufFile::Open(arguments.model, FileSystem::Local()));
    tokenizer_ = Require(model::LoadTokenizer(*file_));
    const auto compute = ComputeOf(arguments.compute);
    const Stopwatch loading;
    transformer_ = Require(model::Transformer::Load(*file_, {.compute = compute}, &pool_));
    const double load_seconds = loading.seconds();
    const int64_t longest = std::max(*std::ranges::max_element(arguments.lengths),
                                     *std::ranges::max_element(arguments.contexts));
    sample_ = Require(ReadSampleTokens(
        arguments.text, std::max(longest, arguments.decode_context) + arguments.question_tokens,
        *tokenizer_));
    roof_ = Require(MeasureProductRoof(compute, &pool_));
    report_ = {{"model", arguments.model.substr(arguments.model.rfind('/') + 1)},
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
                 report_["model"].get<std::string>().c_str(), ComputeName(compute),
                 pool_.num_threads(), report_["cpu"].get<std::string>().c_str(),
                 sample_.source.c_str(), load_seconds, roof_ / 1e9);
  }

  void Run() {
    if (arguments_.Wants("prefill")) {
      for (const int64_t length : arguments_.lengths) MeasurePrefill(length);
    }
    if (arguments_.Wants("decode")) MeasureDecode();
    if (arguments_.Wants("fused")) {
      for (const int64_t context : arguments_.contexts) MeasureFused(context);
    }
    if (arguments_.json == "-") {
      std::cout << report_.dump(1) << "\n";
    } else if (!arguments_.json.empty()) {
      Require(FileSystem::Local()->WriteAtomically(arguments_.json, report_.dump(1) + "\n"));
    }
  }

 private:
  const model::ModelConfig& config() const { return transformer_->config(); }

  std::span<const int32_t> Sample(int64_t num_tokens) const {
    return std::span(sample_.ids).first(static_cast<size_t>(num_tokens));
  }

  // What must be in memory for a pass over `num_rows` of a prompt, caches of the prompt excluded.
  int64_t PaperBytes(int64_t num_tokens, int64_t num_rows) const {
    return transformer_->memory().packed_bytes + transformer_->memory().mapped_bytes +
           KvBytes(config(), transformer_->kv_type(), num_tokens) +
           WorkspaceBytes(config(), num_rows);
  }

  // Whether the model was made for so many positions.
  bool Fits(int64_t num_tokens) const {
    if (num_tokens <= config().context_length) return true;
    std::fprintf(out_, "%lld tokens are more than the model's context of %d: left out\n",
                 static_cast<long long>(num_tokens), config().context_length);
    return false;
  }

  // Milliseconds of a prefill from nothing to the logits of the last token.
  double FullPrefill(std::span<const int32_t> tokens) const {
    const Stopwatch stopwatch;
    const auto cache = Require(model::KvCache::Create(
        config(), transformer_->kv_type(), std::ssize(tokens), transformer_->memory_pool()));
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    Require(transformer_->Forward({.tokens = tokens, .positions = positions}, cache.get())).clear();
    return stopwatch.milliseconds();
  }

  void MeasurePrefill(int64_t num_tokens) {
    if (!Fits(num_tokens)) return;
    Times times;
    ResetPeakResidentBytes();
    times.Add(FullPrefill(Sample(num_tokens)));
    const int64_t peak = PeakResidentBytes();
    for (int run = 0; run < arguments_.repetitions; ++run) {
      times.Add(FullPrefill(Sample(num_tokens)));
    }
    const int64_t paper = PaperBytes(num_tokens, num_tokens);
    const double seconds = times.median() / 1e3;
    const double flops = PrefillFlops(config(), num_tokens) / seconds;
    std::fprintf(out_,
                 "prefill %5lld tokens: %7.1f tokens/s, %8.1f ms (CV %.1f %%, first %.1f ms), "
                 "%.0f GFLOP/s = %.0f %% of the roof; peak %.0f MB, paper need %.0f MB\n",
                 static_cast<long long>(num_tokens), static_cast<double>(num_tokens) / seconds,
                 times.median(), 100.0 * VariationOf(times.ms), times.first_ms, flops / 1e9,
                 100.0 * flops / roof_, Megabytes(peak), Megabytes(paper));
    nlohmann::json row = times.ToJson();
    row.update(nlohmann::json{{"tokens", num_tokens},
                              {"tokens_per_s", static_cast<double>(num_tokens) / seconds},
                              {"flops", flops},
                              {"roof_share", flops / roof_},
                              {"peak_bytes", peak},
                              {"paper_bytes", paper}});
    report_["prefill"].push_back(row);
  }

  // Greedy decoding behind a prompt; each round is one series of tokens.
  void MeasureDecode() {
    const int64_t context = arguments_.decode_context;
    const int64_t count = arguments_.decode_tokens;
    if (!Fits(context + count)) return;
    const auto cache =
        Require(model::KvCache::Create(config(), transformer_->kv_type(), context + count));
    std::vector<int32_t> positions(static_cast<size_t>(context));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<float> prompt_logits = Require(
        transformer_->Forward({.tokens = Sample(context), .positions = positions}, cache.get()));
    Times times;
    for (int run = 0; run <= arguments_.repetitions; ++run) {
      std::vector<float> logits = prompt_logits;
      const Stopwatch stopwatch;
      for (int64_t step = 0; step < count; ++step) {
        const auto token = static_cast<int32_t>(kernels::ArgMax(logits.data(), std::ssize(logits)));
        const auto position = static_cast<int32_t>(context + step);
        logits = Require(transformer_->Forward({.tokens = {&token, 1}, .positions = {&position, 1}},
                                               cache.get()));
      }
      times.Add(stopwatch.milliseconds() / static_cast<double>(count));
    }
    const double tokens_per_s = 1e3 / times.median();
    // A token reads the weights and the keys and values before it.
    const auto bytes =
        static_cast<double>(transformer_->memory().mapped_bytes +
                            KvBytes(config(), transformer_->kv_type(), context + count / 2));
    std::fprintf(out_, "decode at %lld tokens: %.1f tokens/s, %.2f ms (CV %.1f %%), %.1f GB/s\n",
                 static_cast<long long>(context), tokens_per_s, times.median(),
                 100.0 * VariationOf(times.ms), bytes * tokens_per_s / 1e9);
    report_["decode"] = times.ToJson();
    report_["decode"].update(nlohmann::json{{"context", context},
                                            {"tokens", count},
                                            {"tokens_per_s", tokens_per_s},
                                            {"bytes_per_s", bytes * tokens_per_s}});
  }

  // `question_tokens` ids that end as a prompt of this model ends.
  std::vector<int32_t> Question(const model::ChatFormat& chat) const {
    const std::vector<int32_t> tail = Require(chat.EncodeTail(*tokenizer_, "\nAnswer:"));
    const auto size = static_cast<size_t>(arguments_.question_tokens);
    std::vector<int32_t> ids(sample_.ids.end() - arguments_.question_tokens, sample_.ids.end());
    ids.insert(ids.end(), tail.begin(), tail.end());
    return {ids.end() - static_cast<int64_t>(size), ids.end()};
  }

  void MeasureFused(int64_t context) {
    if (!Fits(context + 256)) return;
    const auto chat = Require(model::ChatFormat::FromGguf(*file_, *tokenizer_));
    const std::vector<int32_t> header = Require(chat.EncodeHeader(
        *tokenizer_, "Answer the question based on the given passages.", "Passages:\n\n"));
    const auto header_kv = Require(engine::BuildKv(*transformer_, nullptr, header, nullptr));
    const auto store = Require(StoredChunks::Create());
    std::vector<engine::PromptPart> parts;
    std::vector<std::unique_ptr<engine::MemoryKv>> in_memory;
    std::vector<std::unique_ptr<engine::KvSource>> stored;
    const Stopwatch building;
    for (int64_t begin = 0; begin < context; begin += arguments_.chunk_tokens) {
      const auto tokens = Sample(std::min(context, begin + arguments_.chunk_tokens))
                              .subspan(static_cast<size_t>(begin));
      parts.push_back({.tokens = {tokens.begin(), tokens.end()}, .cached = nullptr});
      in_memory.push_back(
          Require(engine::BuildKv(*transformer_, header_kv.get(), tokens, nullptr)));
      stored.push_back(Require(store->Add(*in_memory.back())));
    }
    const double build_ms = building.milliseconds();
    const std::vector<int32_t> question = Question(chat);
    const auto prompt_from = [&](const auto& sources) {
      for (size_t i = 0; i < parts.size(); ++i) parts[i].cached = sources[i].get();
      return Require(
          engine::Prompt::Create({.tokens = header, .cached = header_kv.get()}, parts, question));
    };
    const engine::Prompt memory_prompt = prompt_from(in_memory);
    const engine::Prompt store_prompt = prompt_from(stored);
    std::fprintf(out_,
                 "fused: %zu chunks of %lld tokens (built and stored in %.0f ms), header %zu, "
                 "question %zu; selector %s, propagation %s, probes %s\n",
                 parts.size(), static_cast<long long>(arguments_.chunk_tokens), build_ms,
                 header.size(), question.size(), arguments_.selector.c_str(),
                 arguments_.propagate.c_str(), arguments_.probes.c_str());
    std::vector<FusedCase> cases;
    for (const std::string& tier : arguments_.tiers) {
      for (const double ratio : arguments_.ratios) {
        cases.emplace_back().tier = tier;
        cases.back().ratio = ratio;
      }
    }
    Times full;
    for (int round = 0; round <= arguments_.repetitions; ++round) {
      const double full_ms = FullPrefill(memory_prompt.tokens());
      full.Add(full_ms);
      for (FusedCase& measured : cases) {
        const bool is_memory = measured.tier == "memory";
        if (measured.tier == "cold") {
          Require(store->DropFromPageCache());
          measured.page_cache_share_max =
              std::max(measured.page_cache_share_max, Require(store->ShareInPageCache()));
        }
        RunFused(is_memory ? memory_prompt : store_prompt, round == 0 ? 0.0 : full_ms, &measured);
      }
    }
    ReportFused(context, memory_prompt, full, build_ms, cases);
  }

  // `full_ms` 0: a warm-up, of which only the time and the peak of memory are kept.
  void RunFused(const engine::Prompt& prompt, double full_ms, FusedCase* measured) {
    const engine::FusionOptions options = {
        .selector = arguments_.selector,
        .ratio = measured->ratio,
        .propagate = arguments_.propagate == "off"      ? engine::PropagationMode::kOff
                     : arguments_.propagate == "causal" ? engine::PropagationMode::kCausal
                                                        : engine::PropagationMode::kTwoSided,
        .probes = engine::ProbePassNamed(arguments_.probes)};
    const bool is_warm_up = full_ms == 0.0;
    if (is_warm_up) ResetPeakResidentBytes();
    const Stopwatch stopwatch;
    const engine::FusedContext context = Require(
        engine::FusedPrefill(*transformer_, prompt, options, arguments_.decode_tokens, nullptr));
    const double ms = stopwatch.milliseconds();
    measured->total.Add(ms);
    if (!context.lost_segments.empty()) {
      Require(Status(StatusCode::kCorruption, "a cache was lost: the times mean nothing"));
    }
    if (is_warm_up) {
      measured->peak_bytes = PeakResidentBytes();
      return;
    }
    measured->speedups.push_back(full_ms / ms);
    measured->question_ms.push_back(context.timing.question_ms);
    measured->solve_ms.push_back(context.timing.solve_ms);
    measured->load_ms.push_back(context.timing.load_ms);
    measured->wait_ms.push_back(context.timing.wait_ms);
    measured->rows_ms.push_back(context.timing.rows_ms);
    measured->recomputed_tokens = context.usage.recomputed_tokens;
  }

  void ReportFused(int64_t context, const engine::Prompt& prompt, const Times& full,
                   double build_ms, const std::vector<FusedCase>& cases) {
    const int64_t num_tokens = prompt.num_tokens();
    std::fprintf(out_, "  full prefill of the same %lld tokens: %.1f ms (CV %.1f %%)\n",
                 static_cast<long long>(num_tokens), full.median(), 100.0 * VariationOf(full.ms));
    std::fprintf(out_, "  %-6s %5s %9s %6s %8s %8s %8s %8s %8s %8s %8s %9s %9s\n", "tier", "ratio",
                 "ttft ms", "CV %", "speedup", "question", "solve", "rows", "load", "waited",
                 "first", "peak MB", "paper MB");
    nlohmann::json rows = nlohmann::json::array();
    // The caches that this program holds itself, and those that a run has loaded.
    const int64_t cached_bytes =
        KvBytes(config(), transformer_->kv_type(), prompt.question_begin());
    for (const FusedCase& measured : cases) {
      const int64_t num_rows = measured.recomputed_tokens + num_tokens - prompt.question_begin();
      const int64_t paper = PaperBytes(num_tokens, num_rows) + 2 * cached_bytes;
      const double solve = MedianOf(measured.solve_ms);
      std::fprintf(out_,
                   "  %-6s %5.2f %9.1f %6.1f %8.2f %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %9.0f "
                   "%9.0f\n",
                   measured.tier.c_str(), measured.ratio, measured.total.median(),
                   100.0 * VariationOf(measured.total.ms), MedianOf(measured.speedups),
                   MedianOf(measured.question_ms), solve, MedianOf(measured.rows_ms),
                   MedianOf(measured.load_ms), MedianOf(measured.wait_ms), measured.total.first_ms,
                   Megabytes(measured.peak_bytes), Megabytes(paper));
      nlohmann::json row = measured.total.ToJson();
      row.update(nlohmann::json{{"tier", measured.tier},
                                {"ratio", measured.ratio},
                                {"speedup", MedianOf(measured.speedups)},
                                {"speedups", measured.speedups},
                                {"question_ms", MedianOf(measured.question_ms)},
                                {"solve_ms", solve},
                                {"rows_ms", MedianOf(measured.rows_ms)},
                                {"load_ms", MedianOf(measured.load_ms)},
                                {"wait_ms", MedianOf(measured.wait_ms)},
                                {"recomputed_tokens", measured.recomputed_tokens},
                                {"peak_bytes", measured.peak_bytes},
                                {"paper_bytes", paper}});
      if (measured.tier == "cold") row["page_cache_share_max"] = measured.page_cache_share_max;
      rows.push_back(row);
      if (measured.page_cache_share_max > 0.01) {
        std::fprintf(out_, "  cold is not cold: %.0f %% of the pages stayed in the page cache\n",
                     100.0 * measured.page_cache_share_max);
      }
    }
    report_["fused"].push_back({{"context_tokens", context},
                                {"prompt_tokens", num_tokens},
                                {"question_tokens", num_tokens - prompt.question_begin()},
                                {"selector", arguments_.selector},
                                {"propagate", arguments_.propagate},
                                {"probes", arguments_.probes},
                                {"build_ms", build_ms},
                                {"full", full.ToJson()},
                                {"cases", rows}});
  }

  const Arguments arguments_;
  std::FILE* const out_;
  ThreadPool pool_;
  std::unique_ptr<model::GgufFile> file_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<model::Transformer> transformer_;
  SampleTokens sample_;
  double roof_ = 0.0;
  nlohmann::json report_;
};

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Full prefill, decoding and fused time to first token of a real model.");
  const auto* model = app.add_option("--model", arguments.model, "GGUF file");
  app.add_option("--text", arguments.text, "folder whose Markdown files are the text");
  app.add_option("--json", arguments.json, "where to write the figures; -: standard output");
  app.add_option("--compute", arguments.compute, "auto, int8, bf16 or f32")
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
  app.add_option("--ratios", arguments.ratios, "fused: shares of rows to recompute")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--tiers", arguments.tiers, "fused: memory, warm, cold")
      ->delimiter(',')
      ->check(CLI::IsMember({"memory", "warm", "cold"}));
  app.add_option("--selector", arguments.selector, "fused: which rows");
  app.add_option("--probes", arguments.probes, "fused: when evenly spaced rows are computed")
      ->check(CLI::IsMember({"with_rows", "with_question", "with_question_only"}));
  app.add_option("--propagate", arguments.propagate, "fused: off, two_sided, causal")
      ->check(CLI::IsMember({"off", "two_sided", "causal"}));
  app.add_option("--chunk-tokens", arguments.chunk_tokens, "fused: tokens of a chunk")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--question-tokens", arguments.question_tokens, "fused: tokens of the question")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--decode-context", arguments.decode_context, "decode: tokens before")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--decode-tokens", arguments.decode_tokens, "decode: tokens of a series")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--repetitions", arguments.repetitions, "measured runs of each case")
      ->check(CLI::Range(1, 1000));
  app.add_option("--threads", arguments.num_threads, "0: all cores")->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  if (model->count() == 0 && !FileSystem::Local()->Exists(arguments.model)) {
    std::fprintf(stderr, "no %s, so nothing is measured; get it with tools/fetch_models.sh\n",
                 arguments.model.c_str());
    return 0;
  }
  PrefillBench(arguments).Run();
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
