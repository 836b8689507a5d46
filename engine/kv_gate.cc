#include "engine/kv_gate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <utility>

#include "engine/answer_prompt.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "engine/kv_gate_texts.h"
#include "engine/log_probabilities.h"
#include "kernels/softmax.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kAnswerTokensMax = 8;
constexpr std::string_view kChoiceKey = "kv_dtype";
constexpr std::string_view kGateKey = "kv_gate";

struct NamedForm {
  KvPayloadType form;
  std::string_view name;
};
constexpr std::array<NamedForm, 5> kNames = {{{KvPayloadType::kBf16, "bf16"},
                                              {KvPayloadType::kF32, "f32"},
                                              {KvPayloadType::kInt8, "int8"},
                                              {KvPayloadType::kInt4, "int4"},
                                              {KvPayloadType::kRot4, "rot4"}}};
constexpr std::array<KvPayloadType, 4> kForms = {KvPayloadType::kBf16, KvPayloadType::kInt8,
                                                 KvPayloadType::kInt4, KvPayloadType::kRot4};

// What one prompt says about one form.
struct Sample {
  double kl1 = 0.0;
  double agreement = 0.0;
  bool is_exact = false;
};

int64_t Best(std::span<const double> row) { return std::ranges::max_element(row) - row.begin(); }

// The caches of one prompt in one form: of all passages together, and of each.
struct FormCaches {
  std::unique_ptr<MemoryKv> whole;
  std::vector<std::unique_ptr<MemoryKv>> parts;
};

class GateRun {
 public:
  GateRun(const Generator& generator, const CancelToken* cancel)
      : transformer_(*generator.transformer), generator_(generator), cancel_(cancel) {}

  Status Begin() {
    INTARSIA_ASSIGN_OR_RETURN(header_, EncodeAnswerHeader(generator_));
    INTARSIA_ASSIGN_OR_RETURN(header_kv_, BuildKv(transformer_, nullptr, header_, cancel_));
    return Status::Ok();
  }

  // Adds one sample of each form; of one that cannot keep the model's numbers none.
  Status Add(const KvGatePrompt& gate_prompt) {
    INTARSIA_RETURN_IF_ERROR(Encode(gate_prompt));
    INTARSIA_RETURN_IF_ERROR(ComputeReference());
    INTARSIA_ASSIGN_OR_RETURN(const FormCaches exact, BuildCaches());
    for (size_t i = 0; i < kForms.size(); ++i) {
      Result<FormCaches> caches = Requantize(exact, kForms[i]);
      if (caches.status().code() == StatusCode::kUnsupported) {
        is_unusable_[i] = true;
        continue;
      }
      INTARSIA_RETURN_IF_ERROR(caches.status());
      token_bytes_[i] += TokenBytes(*caches->whole);
      INTARSIA_ASSIGN_OR_RETURN(const Sample alone, RunAlone(*caches));
      INTARSIA_ASSIGN_OR_RETURN(const Sample fused, RunFused(*caches));
      alone_[i].push_back(alone);
      fused_[i].push_back(fused);
    }
    ++num_prompts_;
    return Status::Ok();
  }

  KvGateReport Report() const {
    KvGateReport report;
    report.num_prompts = num_prompts_;
    for (size_t i = 0; i < kForms.size(); ++i) {
      KvFormReport& form = report.forms.emplace_back();
      form.form = kForms[i];
      form.is_usable = !is_unusable_[i];
      if (!form.is_usable) continue;
      form.token_bytes = token_bytes_[i] / static_cast<double>(num_prompts_);
      form.alone = Cost(alone_[i], alone_[0]);
      form.fused = Cost(fused_[i], fused_[0]);
      form.passes = PassesKvGate(form);
    }
    report.choice = ChooseKvForm(report.forms);
    return report;
  }

 private:
  static double TokenBytes(const MemoryKv& kv) {
    size_t num_bytes = 0;
    for (const std::vector<uint8_t>& layer : kv.layers()) num_bytes += layer.size();
    return static_cast<double>(num_bytes) / static_cast<double>(kv.num_tokens());
  }

  static KvFormCost Cost(const std::vector<Sample>& samples, const std::vector<Sample>& baseline) {
    KvFormCost cost;
    const auto count = static_cast<double>(samples.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      cost.kl1 += samples[i].kl1 / count;
      cost.added += (samples[i].kl1 - baseline[i].kl1) / count;
      cost.agreement += samples[i].agreement / count;
      cost.num_exact += samples[i].is_exact ? 1 : 0;
    }
    double squares = 0.0;
    for (size_t i = 0; i < samples.size(); ++i) {
      const double off = samples[i].kl1 - baseline[i].kl1 - cost.added;
      squares += off * off;
    }
    if (samples.size() > 1) cost.added_error = std::sqrt(squares / (count - 1.0) / count);
    return cost;
  }

  Status Encode(const KvGatePrompt& gate_prompt) {
    passages_.clear();
    whole_.clear();
    for (const size_t index : gate_prompt.passages) {
      const KvGateText& text = KvGateTexts()[index];
      storage::Document document;
      document.title = text.title;
      INTARSIA_ASSIGN_OR_RETURN(Passage passage,
                                EncodePassage(*generator_.tokenizer, document, {}, text.text));
      whole_.insert(whole_.end(), passage.tokens.begin(), passage.tokens.end());
      passages_.push_back(std::move(passage.tokens));
    }
    INTARSIA_ASSIGN_OR_RETURN(
        question_, EncodeAnswerQuestion(generator_, KvGateTexts()[gate_prompt.question].question));
    return Status::Ok();
  }

  // The full prefill's greedy answer and the distributions that it was chosen from.
  Status ComputeReference() {
    std::vector<PromptPart> parts;
    for (const std::vector<int32_t>& tokens : passages_) parts.push_back({.tokens = tokens});
    INTARSIA_ASSIGN_OR_RETURN(
        const Prompt prompt,
        Prompt::Create({.tokens = header_, .cached = nullptr}, parts, question_));
    INTARSIA_ASSIGN_OR_RETURN(FusedContext context,
                              FusedPrefill(transformer_, prompt, {}, kAnswerTokensMax, cancel_));
    answer_.clear();
    reference_.clear();
    std::vector<float> logits = std::move(context.logits);
    while (true) {
      const auto token = static_cast<int32_t>(kernels::ArgMax(logits.data(), std::ssize(logits)));
      const auto position = static_cast<int32_t>(prompt.num_tokens() + std::ssize(answer_));
      reference_.push_back(LogProbabilities(logits));
      answer_.push_back(token);
      if (generator_.tokenizer->IsStop(token) || std::ssize(answer_) == kAnswerTokensMax) break;
      INTARSIA_ASSIGN_OR_RETURN(
          logits, transformer_.Forward(
                      {.tokens = {&token, 1}, .positions = {&position, 1}, .cancel = cancel_},
                      context.cache.get()));
    }
    return Status::Ok();
  }

  // All in f32, from which every form is made as if it had been made at once.
  Result<FormCaches> BuildCaches() const {
    const auto build = [&](const std::vector<int32_t>& tokens) {
      return BuildKv(transformer_, header_kv_.get(), tokens, KvPayloadType::kF32, cancel_);
    };
    FormCaches caches;
    INTARSIA_ASSIGN_OR_RETURN(caches.whole, build(whole_));
    for (const std::vector<int32_t>& tokens : passages_) {
      INTARSIA_ASSIGN_OR_RETURN(caches.parts.emplace_back(), build(tokens));
    }
    return caches;
  }

  Result<std::unique_ptr<MemoryKv>> Requantize(const MemoryKv& exact, KvPayloadType form) const {
    const int64_t width = transformer_.config().kv_size();
    std::vector<std::vector<uint8_t>> layers;
    for (const std::vector<uint8_t>& layer : exact.layers()) {
      const auto* const k = reinterpret_cast<const float*>(layer.data());
      std::vector<uint8_t>& payload = layers.emplace_back(
          static_cast<size_t>(kernels::KvPayloadBytes(form, exact.num_tokens(), width)));
      INTARSIA_RETURN_IF_ERROR(kernels::EncodeKv({.type = form,
                                                  .k = k,
                                                  .v = k + exact.num_tokens() * width,
                                                  .num_tokens = exact.num_tokens(),
                                                  .width = width,
                                                  .payload = payload.data(),
                                                  .payload_bytes = std::ssize(payload)}));
    }
    return std::make_unique<MemoryKv>(form, exact.num_tokens(), std::move(layers));
  }

  Result<FormCaches> Requantize(const FormCaches& exact, KvPayloadType form) const {
    FormCaches caches;
    INTARSIA_ASSIGN_OR_RETURN(caches.whole, Requantize(*exact.whole, form));
    for (const auto& part : exact.parts) {
      INTARSIA_ASSIGN_OR_RETURN(caches.parts.emplace_back(), Requantize(*part, form));
    }
    return caches;
  }

  Result<Sample> RunAlone(const FormCaches& caches) const {
    const PromptPart whole = {.tokens = whole_, .cached = caches.whole.get()};
    return Run({&whole, 1}, {.selector = "none", .ratio = 0.0, .propagate = PropagationMode::kOff});
  }

  Result<Sample> RunFused(const FormCaches& caches) const {
    std::vector<PromptPart> parts;
    for (size_t i = 0; i < passages_.size(); ++i) {
      parts.push_back({.tokens = passages_[i], .cached = caches.parts[i].get()});
    }
    return Run(parts, {});
  }

  // The reference's answer, forced token by token over a context of caches.
  Result<Sample> Run(std::span<const PromptPart> parts, const FusionOptions& options) const {
    INTARSIA_ASSIGN_OR_RETURN(
        const Prompt prompt,
        Prompt::Create({.tokens = header_, .cached = header_kv_.get()}, parts, question_));
    INTARSIA_ASSIGN_OR_RETURN(
        const FusedContext context,
        FusedPrefill(transformer_, prompt, options, kAnswerTokensMax, cancel_));
    std::vector<std::vector<double>> rows = {LogProbabilities(context.logits)};
    if (answer_.size() > 1) {
      const std::span<const int32_t> tokens(answer_.data(), answer_.size() - 1);
      std::vector<int32_t> positions(tokens.size());
      std::iota(positions.begin(), positions.end(), static_cast<int32_t>(prompt.num_tokens()));
      INTARSIA_ASSIGN_OR_RETURN(
          const std::vector<float> logits,
          transformer_.Forward({.tokens = tokens,
                                .positions = positions,
                                .num_logit_rows = static_cast<int32_t>(tokens.size()),
                                .cancel = cancel_},
                               context.cache.get()));
      const size_t vocabulary = context.logits.size();
      for (size_t row = 0; row < tokens.size(); ++row) {
        rows.push_back(LogProbabilities({logits.data() + row * vocabulary, vocabulary}));
      }
    }
    Sample sample = {.kl1 = KlDivergence(reference_[0], rows[0])};
    int64_t num_same = 0;
    for (size_t row = 0; row < rows.size(); ++row) {
      num_same += Best(rows[row]) == Best(reference_[row]) ? 1 : 0;
    }
    sample.agreement = static_cast<double>(num_same) / static_cast<double>(rows.size());
    sample.is_exact = num_same == std::ssize(rows);
    return sample;
  }

  const model::Transformer& transformer_;
  const Generator& generator_;
  const CancelToken* const cancel_;
  std::vector<int32_t> header_;
  std::unique_ptr<MemoryKv> header_kv_;

  // Of the prompt at work.
  std::vector<std::vector<int32_t>> passages_;
  std::vector<int32_t> whole_;
  std::vector<int32_t> question_;
  std::vector<int32_t> answer_;
  std::vector<std::vector<double>> reference_;

  // By form.
  int64_t num_prompts_ = 0;
  std::array<bool, kForms.size()> is_unusable_ = {};
  std::array<double, kForms.size()> token_bytes_ = {};
  std::array<std::vector<Sample>, kForms.size()> alone_;
  std::array<std::vector<Sample>, kForms.size()> fused_;
};

std::string Describe(const KvFormCost& cost, int64_t num_prompts) {
  char text[128];
  std::snprintf(text, sizeof(text),
                "KL1 %.4f, adds %.4f +- %.4f, agreement %.2f, exact %lld of %lld", cost.kl1,
                cost.added, cost.added_error, cost.agreement,
                static_cast<long long>(cost.num_exact), static_cast<long long>(num_prompts));
  return text;
}

// Most that a form may add to KL1, alone and under fusion. bf16 is what the others are measured
// against, and has no limit.
std::optional<double> KvFormLimit(KvPayloadType form) {
  switch (form) {
    case KvPayloadType::kInt8:
      return 0.001;
    case KvPayloadType::kInt4:
    case KvPayloadType::kRot4:
      return 0.01;
    case KvPayloadType::kBf16:
    case KvPayloadType::kF32:
      break;
  }
  return std::nullopt;
}

}  // namespace

std::span<const KvPayloadType> KvForms() { return kForms; }

std::string_view KvFormName(KvPayloadType form) {
  const auto* const found = std::ranges::find(kNames, form, &NamedForm::form);
  return found == kNames.end() ? "unknown" : found->name;
}

std::optional<KvPayloadType> KvFormNamed(std::string_view name) {
  const auto* const found = std::ranges::find(kNames, name, &NamedForm::name);
  if (found == kNames.end()) return std::nullopt;
  return found->form;
}

Result<KvGateReport> MeasureKvForms(const Generator& generator, const KvGateOptions& options) {
  if (options.num_prompts < 1 || options.num_prompts > kFullGatePrompts) {
    return Status(StatusCode::kInvalidArgument,
                  "a gate has 1 to " + std::to_string(kFullGatePrompts) +
                      " prompts: prompts=" + std::to_string(options.num_prompts));
  }
  GateRun run(generator, options.cancel);
  INTARSIA_RETURN_IF_ERROR(run.Begin());
  Progress progress = {.stage = "measure", .unit = "prompts", .total = options.num_prompts};
  for (int64_t i = 0; i < options.num_prompts; ++i) {
    if (options.progress != nullptr) options.progress->Report(progress);
    INTARSIA_RETURN_IF_ERROR(run.Add(KvGatePromptAt(i * kFullGatePrompts / options.num_prompts)));
    ++progress.done;
  }
  if (options.progress != nullptr) options.progress->Report(progress);
  return run.Report();
}

bool PassesKvGate(const KvFormReport& report) {
  if (!report.is_usable) return false;
  const std::optional<double> limit = KvFormLimit(report.form);
  if (!limit.has_value()) return true;
  // Written so that what is not a number does not pass.
  const auto passes = [&](const KvFormCost& cost) {
    return cost.added - cost.added_error <= *limit;
  };
  return passes(report.alone) && passes(report.fused);
}

KvPayloadType ChooseKvForm(std::span<const KvFormReport> forms) {
  const KvFormReport* choice = nullptr;
  for (const KvFormReport& form : forms) {
    if (!form.passes) continue;
    if (choice == nullptr || form.token_bytes < choice->token_bytes) choice = &form;
  }
  return choice == nullptr ? KvPayloadType::kBf16 : choice->form;
}

void StoreKvGate(const KvGateReport& report, storage::ModelInfo* info) {
  std::erase_if(info->parameters,
                [](const auto& entry) { return entry.first.starts_with(kGateKey); });
  info->parameters[std::string(kChoiceKey)] = KvFormName(report.choice);
  info->parameters[std::string(kGateKey)] = std::to_string(report.num_prompts) + " prompts";
  for (const KvFormReport& form : report.forms) {
    std::string text = "the model's numbers cannot be kept so";
    if (form.is_usable) {
      text = std::string(form.passes ? "passes" : "fails") + ", " +
             std::to_string(std::llround(form.token_bytes)) +
             " bytes a token; alone: " + Describe(form.alone, report.num_prompts) +
             "; under fusion: " + Describe(form.fused, report.num_prompts);
    }
    info->parameters[std::string(kGateKey) + "_" + std::string(KvFormName(form.form))] = text;
  }
}

KvPayloadType KvFormOf(const storage::ModelInfo& info) {
  const std::string form = storage::OptionOr(info.parameters, std::string(kChoiceKey), "");
  return KvFormNamed(form).value_or(KvPayloadType::kInt8);
}

}  // namespace intarsia::engine
