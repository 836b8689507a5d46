// CompareWindows: ways to compute a model against the first of them, over windows of real text.
//
// Each window is prefilled once in each way; for the last tokens of each, NextTokenQuality says how
// far the next token's distributions are apart.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/end_to_end/next_token_quality.h"
#include "bench/end_to_end/sample_tokens.h"
#include "model/tokenizer.h"

namespace intarsia::bench {

struct WindowOptions {
  std::string model = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  std::string text = "docs";
  int64_t num_windows = 8;
  int64_t window_tokens = 512;
  int64_t num_rows = 128;  // of a window that are compared
};

// The options of a program; parsing refuses more rows than a window has.
void AddWindowOptions(CLI::App* app, WindowOptions* options);

struct ComparedWay {
  NextTokenQuality quality;
  // Logits [num_rows, vocab_size] of the last rows of a window.
  std::function<std::vector<float>(std::span<const int32_t> tokens, int64_t num_rows)> logits;
};

// The text of all windows, and the token behind the last.
// Errors: those of Tokenizer::Encode.
Result<SampleTokens> ReadWindows(const WindowOptions& options, const model::Tokenizer& tokenizer);

// One line: the model, where the text comes from, how many windows; `place` says where it runs.
void PrintWindows(const WindowOptions& options, const SampleTokens& sample,
                  const std::string& place);

// Runs all windows and prints a table; the first way is the reference, by the name given.
void CompareWindows(const WindowOptions& options, const SampleTokens& sample,
                    const std::string& reference, std::vector<ComparedWay>* ways);

}  // namespace intarsia::bench
