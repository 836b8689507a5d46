// fusion_quality: selectors, ratios and propagation against full prefill, on MuSiQue questions.
//
// For each question and policy one line of JSON is appended to --out: KL of the first answer token,
// mean KL and agreement over the full prefill's answer (teacher forced), whether the greedy answer
// is the same, F1, and the time to the first token. A run that is stopped goes on where it was.
// A selector's name with _reranked computes its probes with the question too, with _kept there
// only. With --device everything is computed there, the caches and the full prefill included.
// tools/quality_report.py makes the table and the plot.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "bench/end_to_end/quality_machine.h"
#include "bench/end_to_end/quality_metrics.h"
#include "engine/device_choice.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/kv_gate.h"
#include "engine/log_probabilities.h"
#include "kernels/softmax.h"
#include "model/chat_format.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace intarsia::bench {
namespace {

// The prompt of the reference measurements (docs/decisions/0002-propagated-recompute.md).
constexpr std::string_view kSystem =
    "Answer the question based on the given passages. Answer within 5 words. Only give me the "
    "answer and do not output any other words.";
constexpr std::string_view kUserPrefix = "The following are given passages.\n\n";
constexpr std::string_view kAsk =
    "Answer the question based on the given passages. Answer the question within 5 words. Do NOT "
    "repeat the question or output any other words.\n\nQuestion:";
constexpr int kAnswerTokensMax = 16;

struct Arguments {
  std::string model;
  std::string data;
  std::string out;
  std::string compute = "auto";
  std::vector<std::string> selectors = {"none",      "prefix", "deviation", "stride",
                                        "attention", "design", "full"};
  std::vector<std::string> propagate = {"off", "two_sided"};
  std::vector<double> ratios = {0.05, 0.10, 0.15, 0.30};
  std::vector<std::string> kv_dtypes = {"compute"};
  std::vector<double> question_depths = {1.0};  // of selectors that ask the question
  std::vector<double> probe_shares = {0.03};
  int num_questions = 75;
  int first_question = 0;
  int num_threads = 0;
  std::string device = "cpu";
};

struct Policy {
  std::string name;
  engine::FusionOptions options;
  std::string propagate;
  std::string kv_dtype = "compute";  // as it was computed, or how it is kept at rest

  std::string Key() const {
    char text[96];
    std::snprintf(text, sizeof(text), "%s/%s/%.3f", name.c_str(), propagate.c_str(), options.ratio);
    std::string key = kv_dtype == "compute" ? text : text + ("/" + kv_dtype);
    if (options.probe_share != 0.03) {
      std::snprintf(text, sizeof(text), "/probes %.3f", options.probe_share);
      key += text;
    }
    if (options.question_depth < 1.0) {
      std::snprintf(text, sizeof(text), "/depth %.2f", options.question_depth);
      key += text;
    }
    return key;
  }
};

// A policy for each depth of the question, if the selector asks it.
std::vector<Policy> WithDepths(const std::vector<double>& depths,
                               const std::vector<Policy>& policies) {
  std::vector<Policy> all;
  for (const double depth : depths) {
    for (Policy policy : policies) {
      const std::string& selector = policy.options.selector;
      const bool is_asking = selector == "attention" || selector == "design";
      if (!is_asking && depth != depths.front()) continue;
      if (is_asking) policy.options.question_depth = depth;
      all.push_back(policy);
    }
  }
  return all;
}

std::vector<Policy> WithProbeShares(const std::vector<double>& shares,
                                    const std::vector<Policy>& policies) {
  std::vector<Policy> all;
  for (const double share : shares) {
    for (Policy policy : policies) {
      if (policy.options.selector != "attention" && share != shares.front()) continue;
      if (policy.options.selector == "attention") policy.options.probe_share = share;
      all.push_back(policy);
    }
  }
  return all;
}

std::vector<Policy> ListPolicies(const Arguments& arguments, const std::string& kv_dtype) {
  std::vector<Policy> policies;
  for (const std::string& name : arguments.selectors) {
    const bool is_reranked = name.ends_with("_reranked");
    const bool is_kept = name.ends_with("_kept");
    const std::string selector = name.substr(0, name.find('_'));
    if (selector == "none" || selector == "full") {
      policies.push_back({.name = name,
                          .options = {.selector = selector,
                                      .ratio = selector == "full" ? 1.0 : 0.0,
                                      .propagate = engine::PropagationMode::kOff},
                          .propagate = "off",
                          .kv_dtype = kv_dtype});
      continue;
    }
    for (const std::string& mode : arguments.propagate) {
      const auto propagate = mode == "off"      ? engine::PropagationMode::kOff
                             : mode == "causal" ? engine::PropagationMode::kCausal
                                                : engine::PropagationMode::kTwoSided;
      for (const double ratio : arguments.ratios) {
        policies.push_back({.name = name,
                            .options = {.selector = selector,
                                        .ratio = ratio,
                                        .propagate = propagate,
                                        .probes = is_reranked ? engine::ProbePass::kWithQuestion
                                                  : is_kept   ? engine::ProbePass::kWithQuestionOnly
                                                              : engine::ProbePass::kWithRows},
                            .propagate = mode,
                            .kv_dtype = kv_dtype});
      }
    }
  }
  return policies;
}

bool EndsInMidLine(const std::string& path) {
  std::ifstream file(path, std::ios::ate);
  if (!file || file.tellg() <= 0) return false;
  file.seekg(-1, std::ios::end);
  return file.get() != '\n';
}

template <typename T>
T Require(Result<T> result) {
  if (!result.ok()) {
    std::cerr << "fusion_quality: " << result.status().ToString() << "\n";
    std::exit(1);
  }
  return *std::move(result);
}

class Evaluation {
 public:
  explicit Evaluation(const Arguments& arguments)
      : arguments_(arguments), pool_(arguments.num_threads) {
    file_ = Require(model::GgufFile::Open(arguments.model, FileSystem::Local()));
    tokenizer_ = Require(model::LoadTokenizer(*file_));
    const model::ChatFormat chat = Require(model::ChatFormat::FromGguf(*file_, *tokenizer_));
    header_ = Require(chat.EncodeHeader(*tokenizer_, kSystem, kUserPrefix));
    tail_ = chat.TailPieces("\nAnswer:");
    const auto device = Require(engine::ParseDeviceChoice(arguments.device));
    const bool is_device = device.kind == engine::DeviceChoice::Kind::kCuda;
    machine_ = Require(MakeQualityMachine(*file_, header_,
                                          {.device = is_device ? device.index : -1,
                                           .compute = arguments.compute,
                                           .num_new_tokens_max = kAnswerTokensMax,
                                           .pool = &pool_}));
    for (const std::string& kv_dtype : arguments.kv_dtypes) {
      const std::vector<Policy> policies =
          WithProbeShares(arguments.probe_shares,
                          WithDepths(arguments.question_depths, ListPolicies(arguments, kv_dtype)));
      policies_.insert(policies_.end(), policies.begin(), policies.end());
    }
    ReadDone();
  }

  void Run() {
    std::ifstream stream(arguments_.data);
    const nlohmann::json questions = nlohmann::json::parse(stream);
    out_.open(arguments_.out, std::ios::app);
    // A run that was killed may have left half a row; what follows must not join it.
    if (EndsInMidLine(arguments_.out)) out_ << "\n";
    const int end = std::min<int>(static_cast<int>(questions.size()),
                                  arguments_.first_question + arguments_.num_questions);
    for (int index = arguments_.first_question; index < end; ++index) {
      const auto begin = std::chrono::steady_clock::now();
      RunQuestion(index, questions[static_cast<size_t>(index)]);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      std::fprintf(stderr, "question %d of %d: %.1f s, ETA %.0f s\n", index + 1, end, seconds,
                   seconds * (end - index - 1));
    }
  }

 private:
  struct Reference {
    std::vector<int32_t> answer;
    std::string text;
    std::vector<std::vector<double>> log_probabilities;  // one row an answer token
  };
  // What is said of each token of an answer, given those before it.
  struct Forced {
    std::vector<std::vector<float>> logits;
    std::vector<int32_t> firsts;  // the token that comes first
  };

  void ReadDone() {
    std::ifstream stream(arguments_.out);
    for (std::string line; std::getline(stream, line);) {
      const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (row.is_object()) done_.insert({row["question"].get<int>(), row["policy"]});
    }
  }

  bool IsStop(int32_t token) const {
    return tokenizer_->IsStop(token) ||
           tokenizer_->Piece(token).find('\n') != std::string_view::npos;
  }

  static int32_t First(const std::vector<float>& logits) {
    return static_cast<int32_t>(kernels::ArgMax(logits.data(), std::ssize(logits)));
  }

  // Continues greedily behind the prompt, whose tokens end before `position`. As long as that gives
  // `answer`, what `forced` says of it need not be computed again.
  std::vector<int32_t> Greedy(QualityRun* run, int64_t position, const std::vector<int32_t>& answer,
                              const Forced& forced) const {
    std::vector<int32_t> tokens = {First(run->logits)};
    bool is_same = true;
    while (!IsStop(tokens.back()) && std::ssize(tokens) < kAnswerTokensMax) {
      const size_t at = tokens.size() - 1;
      is_same = is_same && at + 1 < answer.size() && tokens[at] == answer[at];
      tokens.push_back(is_same ? forced.firsts[at + 1]
                               : First(Require(run->Continue(
                                     {&tokens[at], 1}, position + static_cast<int64_t>(at)))));
    }
    return tokens;
  }

  Forced Force(QualityRun* run, const std::vector<int32_t>& answer, int64_t position) const {
    Forced forced;
    forced.logits = {run->logits};
    const std::span<const int32_t> tokens(answer.data(), answer.size() - 1);
    if (!tokens.empty()) {
      const std::vector<float> logits = Require(run->Continue(tokens, position));
      const auto vocab = std::ssize(run->logits);
      for (auto row = logits.begin(); row != logits.end(); row += vocab) {
        forced.logits.emplace_back(row, row + vocab);
      }
    }
    for (const std::vector<float>& logits : forced.logits) forced.firsts.push_back(First(logits));
    return forced;
  }

  std::string AnswerText(std::vector<int32_t> answer) const {
    if (!answer.empty() && IsStop(answer.back())) answer.pop_back();
    const std::string text = Require(tokenizer_->Decode(answer));
    const size_t begin = text.find_first_not_of(' ');
    return begin == std::string::npos ? "" : text.substr(begin);
  }

  std::vector<int32_t> EncodeQuestion(const std::string& question) const {
    std::vector<int32_t> ids = Require(tokenizer_->Encode(kAsk, model::SpecialTokens::kAsText));
    for (const auto& part :
         {Require(tokenizer_->Encode(" " + question, model::SpecialTokens::kAsText)),
          Require(model::EncodePieces(*tokenizer_, tail_))}) {
      ids.insert(ids.end(), part.begin(), part.end());
    }
    return ids;
  }

  void RunQuestion(int index, const nlohmann::json& question) {
    std::vector<Policy> todo;
    for (const Policy& policy : policies_) {
      if (!done_.contains({index, policy.Key()})) todo.push_back(policy);
    }
    if (todo.empty()) return;
    const std::vector<int32_t> suffix = EncodeQuestion(question["question"]);
    std::vector<engine::PromptPart> parts;
    for (const auto& context : question["ctxs"]) {
      const std::string text = "Passage: " + context["title"].get<std::string>() + "\n" +
                               context["text"].get<std::string>() + "\n\n";
      engine::PromptPart& part = parts.emplace_back();
      part.tokens = Require(tokenizer_->Encode(text, model::SpecialTokens::kAsText));
    }
    const engine::PromptPart header = {.tokens = header_, .cached = &machine_->header()};
    const engine::Prompt uncached =
        Require(engine::Prompt::Create({.tokens = header_, .cached = nullptr}, parts, suffix));
    const auto full = Require(machine_->Run(uncached, {}));
    Reference reference;
    reference.answer = Greedy(full.get(), uncached.num_tokens(), {}, {});
    reference.text = AnswerText(reference.answer);
    reference.log_probabilities.resize(reference.answer.size());
    const Forced forced = Force(full.get(), reference.answer, uncached.num_tokens());
    pool_.ParallelFor(std::ssize(forced.logits), [&](int64_t row, int) {
      const auto at = static_cast<size_t>(row);
      reference.log_probabilities[at] = engine::LogProbabilities(forced.logits[at]);
    });
    WriteRow(index, "reference", *full, 0.0, 0.0, 1.0, reference.text, reference, question);
    for (const std::string& kv_dtype : arguments_.kv_dtypes) {
      const auto has_dtype = [&](const Policy& policy) { return policy.kv_dtype == kv_dtype; };
      if (std::ranges::none_of(todo, has_dtype)) continue;
      std::vector<std::unique_ptr<engine::MemoryKv>> caches;
      for (engine::PromptPart& part : parts) {
        caches.push_back(Require(machine_->Build(part.tokens, engine::KvFormNamed(kv_dtype))));
        part.cached = caches.back().get();
      }
      const engine::Prompt prompt = Require(engine::Prompt::Create(header, parts, suffix));
      for (const Policy& policy : todo) {
        if (has_dtype(policy)) RunPolicy(index, policy, prompt, reference, question);
      }
    }
  }

  void RunPolicy(int index, const Policy& policy, const engine::Prompt& prompt,
                 const Reference& reference, const nlohmann::json& question) {
    const auto run = Require(machine_->Run(prompt, policy.options));
    const Forced forced = Force(run.get(), reference.answer, prompt.num_tokens());
    std::vector<double> kl(forced.logits.size());
    pool_.ParallelFor(std::ssize(kl), [&](int64_t row, int) {
      const auto at = static_cast<size_t>(row);
      kl[at] = engine::KlDivergence(reference.log_probabilities[at],
                                    engine::LogProbabilities(forced.logits[at]));
    });
    double agree = 0.0;
    for (size_t row = 0; row < kl.size(); ++row) {
      const std::vector<double>& wanted = reference.log_probabilities[row];
      const auto first = std::ranges::max_element(wanted) - wanted.begin();
      if (forced.firsts[row] == first) agree += 1.0;
    }
    const auto count = static_cast<double>(kl.size());
    const double mean_kl = std::accumulate(kl.begin(), kl.end(), 0.0) / count;
    const std::string text =
        AnswerText(Greedy(run.get(), prompt.num_tokens(), reference.answer, forced));
    WriteRow(index, policy.Key(), *run, kl[0], mean_kl, agree / count, text, reference, question);
  }

  void WriteRow(int index, const std::string& policy, const QualityRun& run, double kl1,
                double tfkl, double agree, const std::string& text, const Reference& reference,
                const nlohmann::json& question) {
    double f1 = 0.0;
    for (const auto& gold : question["answers"]) {
      f1 = std::max(f1, TokenF1(text, gold.get<std::string>()));
    }
    const nlohmann::json row = {{"question", index},
                                {"policy", policy},
                                {"kl1", kl1},
                                {"tfkl", tfkl},
                                {"agree", agree},
                                {"exact", text == reference.text ? 1 : 0},
                                {"f1", f1},
                                {"answer", text},
                                {"prompt_tokens", run.usage.prompt_tokens},
                                {"recomputed_tokens", run.usage.recomputed_tokens},
                                {"total_ms", run.timing.total_ms},
                                {"question_ms", run.timing.question_ms},
                                {"solve_ms", run.timing.solve_ms},
                                {"rows_ms", run.timing.rows_ms}};
    out_ << row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    out_.flush();
  }

  const Arguments arguments_;
  ThreadPool pool_;
  std::unique_ptr<model::GgufFile> file_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<QualityMachine> machine_;
  std::vector<int32_t> header_;
  std::vector<model::PromptPiece> tail_;
  std::vector<Policy> policies_;
  std::set<std::pair<int, std::string>> done_;
  std::ofstream out_;
};

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) {
  intarsia::bench::Arguments arguments;
  CLI::App app("Quality of fused answers against full prefill, on MuSiQue questions.");
  app.add_option("--model", arguments.model, "GGUF file")->required();
  app.add_option("--data", arguments.data, "MuSiQue questions (JSON)")->required();
  app.add_option("--out", arguments.out, "results, one JSON row a line; appended to")->required();
  app.add_option("--compute", arguments.compute, "auto, bf16 or f32");
  app.add_option("--selectors", arguments.selectors, "which selectors")->delimiter(',');
  app.add_option("--propagate", arguments.propagate, "off, two_sided, causal")->delimiter(',');
  app.add_option("--ratios", arguments.ratios, "shares of rows to recompute")->delimiter(',');
  app.add_option("--kv-dtypes", arguments.kv_dtypes, "compute, bf16, int8, int4, rot4")
      ->delimiter(',')
      ->check(CLI::IsMember({"compute", "bf16", "int8", "int4", "rot4"}));
  app.add_option("--question-depths", arguments.question_depths,
                 "shares of the layers that the question passes before rows are chosen")
      ->delimiter(',')
      ->check(CLI::Range(0.01, 1.0));
  app.add_option("--probe-shares", arguments.probe_shares, "shares of evenly spaced rows")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 0.5));
  app.add_option("--questions", arguments.num_questions, "how many questions");
  app.add_option("--first", arguments.first_question, "the first question, from 0");
  app.add_option("--device", arguments.device,
                 "cpu, or cuda:0, where caches, prompts and answers are computed then");
  app.add_option("--threads", arguments.num_threads, "0: all cores");
  CLI11_PARSE(app, argc, argv);
  intarsia::bench::Evaluation(arguments).Run();
  return 0;
}
