#include "bench/end_to_end/window_comparison.h"

#include <cstdio>

namespace intarsia::bench {

void AddWindowOptions(CLI::App* app, WindowOptions* options) {
  app->add_option("--model", options->model, "GGUF file")->check(CLI::ExistingFile);
  app->add_option("--text", options->text, "folder whose Markdown files are the text");
  app->add_option("--windows", options->num_windows, "pieces of text")
      ->check(CLI::Range(1, 10'000));
  app->add_option("--tokens", options->window_tokens, "tokens of a piece")
      ->check(CLI::Range(2, 1 << 16));
  app->add_option("--rows", options->num_rows, "tokens of a piece that are compared")
      ->check(CLI::Range(1, 1 << 12));
  app->final_callback([options] {
    if (options->num_rows <= options->window_tokens) return;
    throw CLI::ValidationError("--rows", "must not be above --tokens");
  });
}

Result<SampleTokens> ReadWindows(const WindowOptions& options, const model::Tokenizer& tokenizer) {
  return ReadSampleTokens(options.text, options.num_windows * options.window_tokens + 1, tokenizer);
}

void PrintWindows(const WindowOptions& options, const SampleTokens& sample,
                  const std::string& place) {
  std::printf("%s%s; %s; %lld windows of %lld tokens, the last %lld of each\n",
              options.model.substr(options.model.rfind('/') + 1).c_str(), place.c_str(),
              sample.source.c_str(), static_cast<long long>(options.num_windows),
              static_cast<long long>(options.window_tokens),
              static_cast<long long>(options.num_rows));
}

void CompareWindows(const WindowOptions& options, const SampleTokens& sample,
                    const std::string& reference, std::vector<ComparedWay>* ways) {
  const auto piece = [&](int64_t first, int64_t count) {
    return std::span(sample.ids).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  for (int64_t window = 0; window < options.num_windows; ++window) {
    const int64_t begin = window * options.window_tokens;
    const int64_t next = begin + options.window_tokens - options.num_rows + 1;
    std::vector<float> wanted;
    for (ComparedWay& way : *ways) {
      const std::vector<float> logits =
          way.logits(piece(begin, options.window_tokens), options.num_rows);
      if (wanted.empty()) wanted = logits;
      way.quality.AddAll(wanted, logits, piece(next, options.num_rows));
    }
  }
  std::printf("\n");
  NextTokenQuality::ReportHeading(reference);
  for (const ComparedWay& way : *ways) way.quality.Report();
}

}  // namespace intarsia::bench
