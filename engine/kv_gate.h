// KvGate: what it costs a model's answers that its caches are kept in fewer bits, measured.
//
// For each of the built-in prompts the answer of a full prefill is the reference. Every form of
// caches is then tried twice: alone, with one cache over all passages, which would be exact if it
// were not rounded; and under fusion, with a cache for each passage and the default options. What a
// form adds to the divergence of bf16 caches, alone and under fusion, decides. One quantiser rule
// does not fit all models, so that each is measured when it is registered.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/fusion/kv_source.h"
#include "engine/model_registry.h"
#include "engine/progress.h"
#include "storage/catalog.h"

namespace intarsia::engine {

// The forms, by what they take, the largest first; the first is what the others are compared with.
std::span<const KvPayloadType> KvForms();

// "bf16", "int8", "int4" or "rot4"; "f32" for caches in memory alone.
std::string_view KvFormName(KvPayloadType form);
std::optional<KvPayloadType> KvFormNamed(std::string_view name);

// Against the full prefill's answer, means over the prompts.
struct KvFormCost {
  double kl1 = 0.0;          // KL of the first answer token, nats
  double added = 0.0;        // kl1 less that of bf16 caches
  double added_error = 0.0;  // its standard error
  double agreement = 0.0;    // share of the answer's tokens that would be chosen again
  int64_t num_exact = 0;     // answers of which all tokens would
};

struct KvFormReport {
  KvPayloadType form = KvPayloadType::kBf16;
  double token_bytes = 0.0;  // stored for one token of all layers
  bool is_usable = false;    // false: the model's numbers cannot be kept so; no costs then
  KvFormCost alone;
  KvFormCost fused;
  bool passes = false;
};

struct KvGateReport {
  int64_t num_prompts = 0;
  std::vector<KvFormReport> forms;  // in the order of KvForms()
  KvPayloadType choice = KvPayloadType::kBf16;
};

// Prompts of CREATE MODEL, and those of CHECK MODEL, which are all there are.
inline constexpr int64_t kQuickGatePrompts = 3;
inline constexpr int64_t kFullGatePrompts = 12;

struct KvGateOptions {
  int64_t num_prompts = 0;           // 1 to kFullGatePrompts, evenly spread over all
  ProgressSink* progress = nullptr;  // may be null
  const CancelToken* cancel = nullptr;
};

// Runs the prompts. Two runs on one machine give the same report.
// Errors: kInvalidArgument for a number of prompts out of range; those of FusedPrefill and BuildKv.
Result<KvGateReport> MeasureKvForms(const Generator& generator, const KvGateOptions& options);

// Whether a form may be chosen: it adds no more to KL1 than its limit (.001 in int8, .01 in 4 bits)
// and one standard error, both times.
bool PassesKvGate(const KvFormReport& report);

// Of the forms that pass, the one that takes the fewest bytes; bf16 if none does.
KvPayloadType ChooseKvForm(std::span<const KvFormReport> forms);

// Writes the report into a model's parameters, and takes an older one out of them: `kv_dtype` is
// the choice, `kv_gate` the number of prompts, and `kv_gate_FORM` says what was measured.
void StoreKvGate(const KvGateReport& report, storage::ModelInfo* info);

// The form that was chosen for a model; int8 if it was never measured.
KvPayloadType KvFormOf(const storage::ModelInfo& info);

}  // namespace intarsia::engine
