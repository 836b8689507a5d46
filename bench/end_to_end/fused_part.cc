#include "bench/end_to_end/fused_part.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <utility>

#include "base/stopwatch.h"
#include "bench/end_to_end/model_costs.h"
#include "bench/end_to_end/process_memory.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/stored_chunks.h"
#include "bench/end_to_end/times.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "model/chat_format.h"

namespace intarsia::bench {
namespace {

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

class FusedPart {
 public:
  FusedPart(const LoadedModel& model, const FusedPartOptions& options)
      : model_(model), options_(options) {}

  nlohmann::json Run(int64_t context) {
    if (!model_.Fits(context + 256)) return nullptr;
    const auto chat = Require(model::ChatFormat::FromGguf(model_.file(), model_.tokenizer()));
    const std::vector<int32_t> header = Require(chat.EncodeHeader(
        model_.tokenizer(), "Answer the question based on the given passages.", "Passages:\n\n"));
    const auto header_kv = Require(engine::BuildKv(model_.transformer(), nullptr, header, nullptr));
    const auto store = Require(StoredChunks::Create());
    std::vector<engine::PromptPart> parts;
    std::vector<std::unique_ptr<engine::MemoryKv>> in_memory;
    std::vector<std::unique_ptr<engine::KvSource>> stored;
    const Stopwatch building;
    for (int64_t begin = 0; begin < context; begin += options_.chunk_tokens) {
      const auto tokens = model_.Sample(std::min(context, begin + options_.chunk_tokens))
                              .subspan(static_cast<size_t>(begin));
      parts.push_back({.tokens = {tokens.begin(), tokens.end()}, .cached = nullptr});
      in_memory.push_back(
          Require(engine::BuildKv(model_.transformer(), header_kv.get(), tokens, nullptr)));
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
    std::fprintf(model_.out(),
                 "fused: %zu chunks of %lld tokens (built and stored in %.0f ms), header %zu, "
                 "question %zu; selector %s, propagation %s, probes %s\n",
                 parts.size(), static_cast<long long>(options_.chunk_tokens), build_ms,
                 header.size(), question.size(), options_.selector.c_str(),
                 options_.propagate.c_str(), options_.probes.c_str());
    std::vector<FusedCase> cases;
    for (const std::string& tier : options_.tiers) {
      for (const double ratio : options_.ratios) {
        cases.emplace_back().tier = tier;
        cases.back().ratio = ratio;
      }
    }
    Times full;
    for (int round = 0; round <= options_.repetitions; ++round) {
      const double full_ms = model_.FullPrefill(memory_prompt.tokens());
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
    return Report(context, memory_prompt, full, build_ms, cases);
  }

 private:
  // `question_tokens` ids that end as a prompt of this model ends.
  std::vector<int32_t> Question(const model::ChatFormat& chat) const {
    const std::vector<int32_t> tail = Require(chat.EncodeTail(model_.tokenizer(), "\nAnswer:"));
    const auto size = static_cast<size_t>(options_.question_tokens);
    std::vector<int32_t> ids(model_.sample().ids.end() - options_.question_tokens,
                             model_.sample().ids.end());
    ids.insert(ids.end(), tail.begin(), tail.end());
    return {ids.end() - static_cast<int64_t>(size), ids.end()};
  }

  // `full_ms` 0: a warm-up, of which only the time and the peak of memory are kept.
  void RunFused(const engine::Prompt& prompt, double full_ms, FusedCase* measured) {
    const engine::FusionOptions options = {
        .selector = options_.selector,
        .ratio = measured->ratio,
        .propagate = options_.propagate == "off"      ? engine::PropagationMode::kOff
                     : options_.propagate == "causal" ? engine::PropagationMode::kCausal
                                                      : engine::PropagationMode::kTwoSided,
        .probes = engine::ProbePassNamed(options_.probes)};
    const bool is_warm_up = full_ms == 0.0;
    if (is_warm_up) ResetPeakResidentBytes();
    const Stopwatch stopwatch;
    const engine::FusedContext context = Require(
        engine::FusedPrefill(model_.transformer(), prompt, options, options_.room_tokens, nullptr));
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

  nlohmann::json Report(int64_t context, const engine::Prompt& prompt, const Times& full,
                        double build_ms, const std::vector<FusedCase>& cases) {
    const int64_t num_tokens = prompt.num_tokens();
    std::fprintf(model_.out(), "  full prefill of the same %lld tokens: %.1f ms (CV %.1f %%)\n",
                 static_cast<long long>(num_tokens), full.median(), 100.0 * VariationOf(full.ms));
    std::fprintf(model_.out(), "  %-6s %5s %9s %6s %8s %8s %8s %8s %8s %8s %8s %9s %9s\n", "tier",
                 "ratio", "ttft ms", "CV %", "speedup", "question", "solve", "rows", "load",
                 "waited", "first", "peak MB", "paper MB");
    nlohmann::json rows = nlohmann::json::array();
    // The caches that this program holds itself, and those that a run has loaded.
    const int64_t cached_bytes =
        KvBytes(model_.config(), model_.transformer().kv_type(), prompt.question_begin());
    for (const FusedCase& measured : cases) {
      const int64_t num_rows = measured.recomputed_tokens + num_tokens - prompt.question_begin();
      const int64_t paper = model_.PaperBytes(num_tokens, num_rows) + 2 * cached_bytes;
      const double solve = MedianOf(measured.solve_ms);
      std::fprintf(model_.out(),
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
        std::fprintf(model_.out(),
                     "  cold is not cold: %.0f %% of the pages stayed in the page cache\n",
                     100.0 * measured.page_cache_share_max);
      }
    }
    return {{"context_tokens", context},
            {"prompt_tokens", num_tokens},
            {"question_tokens", num_tokens - prompt.question_begin()},
            {"selector", options_.selector},
            {"propagate", options_.propagate},
            {"probes", options_.probes},
            {"build_ms", build_ms},
            {"full", full.ToJson()},
            {"cases", rows}};
  }

  const LoadedModel& model_;
  const FusedPartOptions& options_;
};

}  // namespace

nlohmann::json MeasureFused(const LoadedModel& model, const FusedPartOptions& options,
                            int64_t context) {
  return FusedPart(model, options).Run(context);
}

}  // namespace intarsia::bench
