// ANSWER and EXPLAIN.
#include <algorithm>
#include <utility>

#include "engine/plan_writer.h"
#include "engine/session.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

std::string_view PropagationName(PropagationMode mode) {
  switch (mode) {
    case PropagationMode::kOff:
      return "off";
    case PropagationMode::kTwoSided:
      return "two_sided";
    case PropagationMode::kCausal:
      return "causal";
  }
  return "off";
}

Value CitationValue(const CitedSource& citation) {
  return Value(Value::Object{{"n", Value(citation.n)},
                             {"doc_id", Value(std::to_string(citation.document))},
                             {"source", Value(citation.source)},
                             {"chunk_id", Value(std::to_string(citation.chunk))},
                             {"byte_start", Value(citation.bytes.begin)},
                             {"byte_end", Value(citation.bytes.end)},
                             {"char_start", Value(citation.characters.begin)},
                             {"char_end", Value(citation.characters.end)},
                             {"answer_start", Value(citation.answer.begin)},
                             {"answer_end", Value(citation.answer.end)},
                             {"quote", Value(citation.quote)},
                             {"score", Value(citation.score)}});
}

ResultSet AnswerRows(const AnswerResult& answer, const FusionOptions& fusion) {
  ResultSet result;
  result.columns = {{"answer", ValueKind::kString},
                    {"citations", ValueKind::kList},
                    {"usage", ValueKind::kObject},
                    {"timing", ValueKind::kObject},
                    {"fusion", ValueKind::kObject}};
  Value::List citations;
  for (const CitedSource& citation : answer.citations) {
    citations.push_back(CitationValue(citation));
  }
  const FusionUsage& usage = answer.usage;
  const AnswerTiming& timing = answer.timing;
  result.rows.push_back(
      {Value(answer.text), Value(std::move(citations)),
       Value(Value::Object{{"prompt_tokens", Value(usage.prompt_tokens)},
                           {"reused_tokens", Value(usage.reused_tokens)},
                           {"recomputed_tokens", Value(usage.recomputed_tokens)},
                           {"fresh_tokens", Value(usage.fresh_tokens)},
                           {"generated_tokens", Value(answer.generated_tokens)}}),
       Value(Value::Object{{"retrieve_ms", Value(timing.retrieve_ms)},
                           {"load_ms", Value(timing.load_ms)},
                           {"prefill_ms", Value(timing.prefill_ms)},
                           {"ttft_ms", Value(timing.ttft_ms)},
                           {"decode_ms", Value(timing.decode_ms)},
                           {"total_ms", Value(timing.total_ms)}}),
       Value(Value::Object{{"selector", Value(fusion.selector)},
                           {"ratio", Value(fusion.ratio)},
                           {"propagate", Value(PropagationName(fusion.propagate))}})});
  result.notices = answer.notices;
  return result;
}

// The share of the load that the computation did not wait for.
double HiddenShare(const FusionTiming& timing) {
  return std::clamp(1.0 - timing.wait_ms / timing.load_ms, 0.0, 1.0);
}

void DescribePrompt(const AnswerResult& answer, int depth, PlanWriter* plan) {
  const FusionUsage& usage = answer.usage;
  plan->Add(depth, "PROMPT " + std::to_string(usage.prompt_tokens) +
                       " tokens = " + std::to_string(usage.reused_tokens) + " reused + " +
                       std::to_string(usage.recomputed_tokens) + " recomputed + " +
                       std::to_string(usage.fresh_tokens) + " fresh; " +
                       std::to_string(answer.num_cached_chunks) + " of " +
                       std::to_string(answer.retrieval.chunks.size()) + " chunks cached");
  for (const RetrievedChunk& hit : answer.retrieval.chunks) {
    plan->Add(depth + 1, hit.document.source + " bytes " + std::to_string(hit.chunk.byte_begin) +
                             "-" + std::to_string(hit.chunk.byte_end) + " score " +
                             Format("%.3f", hit.score));
  }
}

void DescribePrediction(const AnswerResult& answer, int depth, PlanWriter* plan) {
  if (answer.predicted_load_ms < 0.0 || answer.predicted_rows_ms < 0.0) {
    plan->Add(depth, "PREDICTION none yet: nothing was measured in this process");
    return;
  }
  plan->Add(depth, "PREDICTION load " + Ms(answer.predicted_load_ms) + ", rows " +
                       Ms(answer.predicted_rows_ms) + ", full prefill " +
                       Ms(answer.predicted_full_ms));
}

void DescribeLoad(const FusionTiming& timing, const std::string& device, int depth,
                  PlanWriter* plan) {
  if (device == "cpu") {
    plan->Add(depth,
              "load " + Ms(timing.load_ms) + " of all threads, by the clock " + Ms(timing.wait_ms));
    return;
  }
  const auto megabytes = [](int64_t bytes) {
    return Format("%.1f MB", static_cast<double>(bytes) / 1e6);
  };
  const int64_t num_copied = timing.read_bytes + timing.pinned_bytes;
  std::string text = "load " + Ms(timing.load_ms);
  if (num_copied > 0 && timing.load_ms > 0.0) {
    text += " at " + Format("%.1f GB/s", static_cast<double>(num_copied) / timing.load_ms / 1e6) +
            ", " + Format("%.0f %%", 100.0 * HiddenShare(timing)) + " hidden";
  }
  plan->Add(depth, text + "; caches: " + megabytes(timing.device_bytes) + " on the device, " +
                       megabytes(timing.pinned_bytes) + " in pinned memory, " +
                       megabytes(timing.read_bytes) + " read");
}

void DescribeGeneration(const AnswerResult& answer, int depth, PlanWriter* plan) {
  std::string text = "GENERATE " + std::to_string(answer.generated_tokens) + " tokens";
  if (answer.generated_tokens > 0) {
    const double seconds = answer.timing.decode_ms / 1e3;
    text += ", first after " + Ms(answer.timing.ttft_ms) + ", " +
            Format("%.1f", static_cast<double>(answer.generated_tokens) / seconds) + " tokens/s";
  }
  plan->Add(depth, text + ", total " + Ms(answer.timing.total_ms));
}

}  // namespace

query::Outcome<AnswerParams> Session::BindAnswer(const query::Answer& statement,
                                                 const EmbeddingModel* embedder) {
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kAnswer, statement.options));
  AnswerParams params;
  INTARSIA_ASSIGN_OR_FAIL(params.retrieve.collection, FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(params.generator, GetGenerator(statement.model));
  params.retrieve.embedder = embedder;
  params.retrieve.text = statement.question.text;
  params.retrieve.where = statement.where.has_value() ? &*statement.where : nullptr;
  params.retrieve.limit = options.GetInteger("k");
  INTARSIA_FAIL_IF(BindRetrieval(options, &params.retrieve));
  params.max_tokens = options.GetInteger("max_tokens");
  params.sampling = {.temperature = options.GetDouble("temperature"),
                     .top_k = options.GetInteger("top_k"),
                     .top_p = options.GetDouble("top_p"),
                     .seed = static_cast<uint64_t>(options.GetInteger("seed"))};
  params.fusion.selector = options.GetText("selector");
  params.fusion.ratio = options.GetDouble("ratio");
  const std::string& propagate = options.GetText("propagate");
  params.fusion.propagate = propagate == "off"      ? PropagationMode::kOff
                            : propagate == "causal" ? PropagationMode::kCausal
                                                    : PropagationMode::kTwoSided;
  params.fusion.probes = ProbePassNamed(options.GetText("probes"));
  params.fusion.probe_share = options.GetDouble("probe_share");
  params.fusion.question_depth = options.GetDouble("question_depth");
  const std::string& reuse = options.GetText("reuse");
  params.reuse = reuse == "none"     ? CacheReuse::kNone
                 : reuse == "prefix" ? CacheReuse::kPrefix
                                     : CacheReuse::kChunks;
  const std::string& order = options.GetText("order");
  params.order = order == "reverse"    ? ChunkOrder::kReverse
                 : order == "document" ? ChunkOrder::kDocument
                                       : ChunkOrder::kScore;
  params.min_score = options.GetDouble("min_score");
  params.on_no_evidence =
      options.GetText("on_no_evidence") == "answer" ? OnNoEvidence::kAnswer : OnNoEvidence::kRefuse;
  INTARSIA_ASSIGN_OR_RETURN(params.device, ParseDeviceChoice(settings_.GetText(kDeviceSetting)));
  params.writes_behind = settings_.GetBoolean("kv.write_behind");
  return params;
}

query::Outcome<ResultSet> Session::Run(const query::Answer& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  INTARSIA_ASSIGN_OR_FAIL(const AnswerParams params, BindAnswer(statement, embedder.get()));
  Answerer answerer(engine_.database(), engine_.retriever(), engine_.kv(), engine_.backends());
  INTARSIA_ASSIGN_OR_FAIL(const AnswerResult answer,
                          answerer.Answer(params, context.tokens, context.cancel));
  return AnswerRows(answer, params.fusion);
}

ResultSet Session::PlanOf(const SearchRun& run, bool is_run) {
  PlanWriter plan;
  plan.Add(0, "SEARCH in " + run.params.collection.name +
                  (run.embedder == nullptr ? "" : " with " + run.embedder->info.name));
  DescribeRetrieval(run.params, run.found, 1, is_run ? PlanTimes::kShow : PlanTimes::kOmit, &plan);
  ResultSet result = plan.Take();
  result.notices = run.found.notices;
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::Explain& statement,
                                       const StatementContext& context) {
  PlanWriter plan;
  if (const auto* search = std::get_if<query::Search>(&statement.statement)) {
    INTARSIA_ASSIGN_OR_FAIL(const SearchRun run, RunRetrieval(*search, {}, context));
    return PlanOf(run, statement.is_analyze);
  }
  if (const auto* select = std::get_if<query::Select>(&statement.statement)) {
    INTARSIA_ASSIGN_OR_FAIL(const SearchRun run, RunRetrieval(*select, context));
    return PlanOf(run, statement.is_analyze);
  }
  const auto& asked = std::get<query::Answer>(statement.statement);
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(asked.collection));
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  INTARSIA_ASSIGN_OR_FAIL(const AnswerParams params, BindAnswer(asked, embedder.get()));
  Answerer answerer(engine_.database(), engine_.retriever(), engine_.kv(), engine_.backends());
  query::Outcome<AnswerResult> outcome = statement.is_analyze
                                             ? answerer.Answer(params, nullptr, context.cancel)
                                             : answerer.Plan(params, context.cancel);
  if (!outcome.ok()) return std::move(outcome).diagnostic();
  const AnswerResult& answer = *outcome;
  plan.Add(0, "ANSWER from " + collection.name + " with " + params.generator->info.name);
  DescribeRetrieval(params.retrieve, answer.retrieval, 1,
                    statement.is_analyze ? PlanTimes::kShow : PlanTimes::kOmit, &plan);
  if (answer.is_refusal) {
    plan.Add(1, "REFUSE without a model");
    ResultSet result = plan.Take();
    result.notices = answer.notices;
    return result;
  }
  DescribePrompt(answer, 1, &plan);
  plan.Add(1, "FUSION selector=" + params.fusion.selector +
                  " ratio=" + Format("%.2f", params.fusion.ratio) +
                  " propagate=" + std::string(PropagationName(params.fusion.propagate)) +
                  " device=" + answer.device);
  DescribePrediction(answer, 2, &plan);
  if (statement.is_analyze) {
    const FusionTiming& timing = answer.fusion_timing;
    plan.Add(2, "question pass " + Ms(timing.question_ms) + ", propagation weights " +
                    Ms(timing.solve_ms) + ", rows " + Ms(timing.rows_ms));
    DescribeLoad(timing, answer.device, 2, &plan);
    DescribeGeneration(answer, 1, &plan);
  }
  ResultSet result = plan.Take();
  result.notices = answer.notices;
  return result;
}

}  // namespace intarsia::engine
