// SEARCH, ANSWER and EXPLAIN.
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/utf8.h"
#include "engine/collection_rows.h"
#include "engine/session.h"
#include "engine/text_indexer.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

VectorScan ScanOf(const query::BoundOptions& options, const query::Settings& settings) {
  const std::string& name =
      options.is_given("scan") ? options.GetText("scan") : settings.GetText("search.scan");
  if (name == "flat") return VectorScan::kFlat;
  if (name == "graph") return VectorScan::kGraph;
  return name == "binary" ? VectorScan::kBinary : VectorScan::kAuto;
}

// What finds chunks, as `options` of SEARCH or ANSWER say.
// Errors: kBinder if the collection lacks what the statement asks for.
query::Failure BindSearchMode(const query::BoundOptions& options, const query::Settings& settings,
                              RetrieveParams* params) {
  const bool is_given = options.is_given("mode");
  const std::string& mode = is_given ? options.GetText("mode") : settings.GetText("search.mode");
  params->mode = mode == "text"     ? SearchMode::kText
                 : mode == "hybrid" ? SearchMode::kHybrid
                                    : SearchMode::kVector;
  if (params->mode != SearchMode::kVector && !HasTextIndex(params->collection)) {
    if (is_given) {
      return query::BinderError(
          {}, "collection \"" + params->collection.name + "\" has no text index",
          "Search it WITH (mode = 'vector'), or make one WITH (text_index = 'bm25').");
    }
    params->mode = SearchMode::kVector;
  }
  const std::string& fusion = options.GetText("rank_fusion");
  params->fusion.method = fusion == "relative" ? query::RankFusion::kRelative
                          : fusion == "linear" ? query::RankFusion::kLinear
                                               : query::RankFusion::kReciprocalRank;
  params->fusion.k = options.GetDouble("rrf_k");
  params->text_weight = options.GetDouble("text_weight");
  params->vector_weight = options.GetDouble("vector_weight");
  params->scan = ScanOf(options, settings);
  return {};
}

Value ScoreValue(const std::optional<double>& score) {
  return score.has_value() ? Value(*score) : Value();
}

// The first `num_chars` code points on one line, with an ellipsis if that is not all.
std::string Snippet(const std::string& text, int64_t num_chars) {
  std::string line;
  int64_t count = 0;
  for (const char c : text) {
    if ((static_cast<uint8_t>(c) & 0xC0) != 0x80 && num_chars > 0 && count++ >= num_chars) {
      return line + "…";
    }
    line.push_back(c == '\n' || c == '\r' || c == '\t' ? ' ' : c);
  }
  return line;
}

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string Ms(double milliseconds) { return Format("%.1f ms", milliseconds); }

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

// A tree of steps, one line each.
class PlanWriter {
 public:
  void Add(int depth, const std::string& text) {
    result_.rows.push_back({Value(std::string(static_cast<size_t>(2 * depth), ' ') +
                                  (depth > 0 ? "-> " : "") + text)});
  }
  ResultSet Take() {
    result_.columns = {{"plan", ValueKind::kString}};
    return std::move(result_);
  }

 private:
  ResultSet result_;
};

// The leg that compares vectors.
void DescribeVectors(const Retrieval& retrieval, int depth, bool is_run, PlanWriter* plan) {
  const bool is_alone = retrieval.mode == SearchMode::kVector;
  plan->Add(depth, (is_alone ? "RETRIEVE by " : "MATCH VECTOR by ") + retrieval.access_path + ": " +
                       std::to_string(retrieval.num_vectors) + " vectors, " +
                       std::to_string(retrieval.num_filtered) + " pass the filter, " +
                       std::to_string(retrieval.num_rescored) + " compared exactly, " +
                       std::to_string(retrieval.num_vector_hits) + (is_alone ? " kept" : " found"));
  if (retrieval.profile.has_value()) {
    const VectorProfile& profile = *retrieval.profile;
    plan->Add(depth + 1, "CODES of " + std::to_string(profile.bits) + " bits, error bound " +
                             Format("%g", profile.error_bound) + ": expected recall@10 " +
                             Format("%.4f", profile.expected_recall) + " of exact");
  }
  std::string predicted;
  for (int64_t path = 0; path < kNumAccessPaths; ++path) {
    const double ms = retrieval.predicted_ms[static_cast<size_t>(path)];
    if (!(ms > 0.0) || std::isinf(ms)) continue;
    predicted += (predicted.empty() ? "PREDICTED " : ", ") +
                 std::string(AccessPathName(static_cast<AccessPath>(path))) + " " +
                 Format("%.0f us", 1e3 * ms);
  }
  if (!predicted.empty()) plan->Add(depth + 1, predicted);
  if (!is_run) return;
  plan->Add(depth + 1, "embed " + Ms(retrieval.embed_ms) + ", search " + Ms(retrieval.search_ms));
}

// The leg that looks for words.
void DescribeWords(const Retrieval& retrieval, int depth, bool is_run, PlanWriter* plan) {
  const index::TextSearchResult& text = retrieval.text;
  const bool is_alone = retrieval.mode == SearchMode::kText;
  plan->Add(depth, (is_alone ? "RETRIEVE by words: " : "MATCH TEXT: ") +
                       std::to_string(text.num_clauses) + " words or phrases with " +
                       std::to_string(text.num_postings) + " postings in " +
                       std::to_string(text.num_chunks) + " chunks, " +
                       std::to_string(text.num_scored) + " chunks scored, " +
                       std::to_string(retrieval.num_text_hits) + (is_alone ? " kept" : " found"));
  if (!is_run) return;
  plan->Add(depth + 1, std::to_string(text.num_blocks_decoded) + " blocks decoded, search " +
                           Ms(retrieval.text_ms));
}

void DescribeRetrieval(const RetrieveParams& params, const Retrieval& retrieval, int depth,
                       bool is_run, PlanWriter* plan) {
  switch (retrieval.mode) {
    case SearchMode::kVector:
      DescribeVectors(retrieval, depth, is_run, plan);
      break;
    case SearchMode::kText:
      DescribeWords(retrieval, depth, is_run, plan);
      break;
    case SearchMode::kHybrid: {
      const bool is_rrf = params.fusion.method == query::RankFusion::kReciprocalRank;
      plan->Add(depth, std::string("RETRIEVE by rank fusion ") +
                           (is_rrf ? "rrf k=" + Format("%g", params.fusion.k)
                            : params.fusion.method == query::RankFusion::kRelative ? "relative"
                                                                                   : "linear") +
                           ", text weight " + Format("%g", params.text_weight) +
                           ", vector weight " + Format("%g", params.vector_weight) + ": " +
                           std::to_string(retrieval.chunks.size()) + " kept");
      DescribeWords(retrieval, depth + 1, is_run, plan);
      DescribeVectors(retrieval, depth + 1, is_run, plan);
      break;
    }
  }
  if (retrieval.num_vectors > 0 && retrieval.is_filtered) {
    const double share =
        static_cast<double>(retrieval.num_filtered) / static_cast<double>(retrieval.num_vectors);
    plan->Add(depth + 1, "WHERE by index: selectivity " + Format("%.3g %%", 100.0 * share) + ", " +
                             std::to_string(retrieval.num_read) + " rows read for it");
  }
  if (retrieval.is_constrained) {
    plan->Add(depth + 1, "WORDS behind + and -: " + std::to_string(retrieval.num_unconstrained) +
                             " chunks pass them");
  }
  if (!is_run) return;
  plan->Add(depth + 1, "index " + Ms(retrieval.build_ms) + ", filter " + Ms(retrieval.filter_ms));
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

query::Outcome<RetrieveParams> Session::BindSearch(
    const query::Search& statement, const storage::CollectionInfo& collection,
    const query::BoundOptions& options, std::shared_ptr<const EmbeddingModel>* embedder) {
  RetrieveParams params;
  params.collection = collection;
  params.text = statement.text.text;
  params.where = statement.where.has_value() ? &*statement.where : nullptr;
  params.limit = statement.limit.value_or(settings_.GetInteger("search.limit"));
  params.syntax = index::TextSyntax::kOperators;
  INTARSIA_FAIL_IF(BindSearchMode(options, settings_, &params));
  // Words are found without a model.
  if (params.mode != SearchMode::kText) {
    INTARSIA_ASSIGN_OR_FAIL(*embedder, EmbedderOf(collection));
    params.embedder = embedder->get();
  }
  return params;
}

query::Outcome<ResultSet> Session::Run(const query::Search& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kSearch, statement.options));
  std::shared_ptr<const EmbeddingModel> embedder;
  INTARSIA_ASSIGN_OR_FAIL(const RetrieveParams params,
                          BindSearch(statement, collection, options, &embedder));
  INTARSIA_ASSIGN_OR_FAIL(const Retrieval found,
                          engine_.retriever()->Retrieve(params, context.cancel));
  ResultSet result;
  result.columns = {{"score", ValueKind::kDouble},        {"source", ValueKind::kString},
                    {"heading", ValueKind::kString},      {"byte_start", ValueKind::kInteger},
                    {"byte_end", ValueKind::kInteger},    {"doc_id", ValueKind::kString},
                    {"chunk_id", ValueKind::kString},     {"text_score", ValueKind::kDouble},
                    {"vector_score", ValueKind::kDouble}, {"snippet", ValueKind::kString}};
  for (const RetrievedChunk& hit : found.chunks) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string text,
                              found.view->GetTextRange(hit.document.text_digest,
                                                       hit.chunk.byte_begin, hit.chunk.byte_end));
    std::string heading;
    for (const std::string& part : hit.chunk.heading_path) {
      heading += (heading.empty() ? "" : " > ") + part;
    }
    result.rows.push_back(
        {Value(hit.score), Value(hit.document.source), Value(heading), Value(hit.chunk.byte_begin),
         Value(hit.chunk.byte_end), Value(std::to_string(hit.document.id)),
         Value(std::to_string(hit.chunk.id)), ScoreValue(hit.text_score),
         ScoreValue(hit.vector_score), Value(Snippet(text, options.GetInteger("snippet_chars")))});
  }
  result.notices = found.notices;
  if (statement.limit.has_value() && !statement.where.has_value() && found.num_vectors > 0 &&
      found.mode != SearchMode::kText && !found.is_constrained &&
      std::ssize(found.chunks) < *statement.limit) {
    result.notices.push_back("only " + std::to_string(found.chunks.size()) + " of " +
                             std::to_string(*statement.limit) +
                             " rows, because the collection holds no more chunks");
  }
  const double search_ms = found.embed_ms + found.filter_ms + found.search_ms + found.text_ms;
  const std::string how = found.mode == SearchMode::kText     ? "words"
                          : found.mode == SearchMode::kHybrid ? "words and " + found.access_path
                                                              : found.access_path;
  result.footer = std::to_string(found.chunks.size()) + " rows, " + Ms(search_ms) + " (" + how +
                  " of " + std::to_string(found.num_vectors) + " chunks)";
  return result;
}

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
  INTARSIA_FAIL_IF(BindSearchMode(options, settings_, &params.retrieve));
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
  params.fusion.probes = options.GetText("probes") == "with_question" ? ProbePass::kWithQuestion
                                                                      : ProbePass::kWithRows;
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
  params.writes_behind = settings_.GetBoolean("kv.write_behind");
  return params;
}

query::Outcome<ResultSet> Session::Run(const query::Answer& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  INTARSIA_ASSIGN_OR_FAIL(const AnswerParams params, BindAnswer(statement, embedder.get()));
  Answerer answerer(engine_.database(), engine_.retriever(), engine_.kv(), engine_.costs());
  INTARSIA_ASSIGN_OR_FAIL(const AnswerResult answer,
                          answerer.Answer(params, context.tokens, context.cancel));
  return AnswerRows(answer, params.fusion);
}

query::Outcome<ResultSet> Session::Run(const query::Explain& statement,
                                       const StatementContext& context) {
  PlanWriter plan;
  if (const auto* search = std::get_if<query::Search>(&statement.statement)) {
    INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                            FindCollection(search->collection));
    INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                            query::BindOptions(query::OptionTable::kSearch, search->options));
    std::shared_ptr<const EmbeddingModel> embedder;
    INTARSIA_ASSIGN_OR_FAIL(const RetrieveParams params,
                            BindSearch(*search, collection, options, &embedder));
    INTARSIA_ASSIGN_OR_FAIL(const Retrieval found,
                            engine_.retriever()->Retrieve(params, context.cancel));
    plan.Add(0, "SEARCH in " + collection.name +
                    (embedder == nullptr ? "" : " with " + embedder->info.name));
    DescribeRetrieval(params, found, 1, statement.is_analyze, &plan);
    ResultSet result = plan.Take();
    result.notices = found.notices;
    return result;
  }
  const auto& asked = std::get<query::Answer>(statement.statement);
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(asked.collection));
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  INTARSIA_ASSIGN_OR_FAIL(const AnswerParams params, BindAnswer(asked, embedder.get()));
  Answerer answerer(engine_.database(), engine_.retriever(), engine_.kv(), engine_.costs());
  query::Outcome<AnswerResult> outcome = statement.is_analyze
                                             ? answerer.Answer(params, nullptr, context.cancel)
                                             : answerer.Plan(params, context.cancel);
  if (!outcome.ok()) return std::move(outcome).diagnostic();
  const AnswerResult& answer = *outcome;
  plan.Add(0, "ANSWER from " + collection.name + " with " + params.generator->info.name);
  DescribeRetrieval(params.retrieve, answer.retrieval, 1, statement.is_analyze, &plan);
  if (answer.is_refusal) {
    plan.Add(1, "REFUSE without a model");
    ResultSet result = plan.Take();
    result.notices = answer.notices;
    return result;
  }
  DescribePrompt(answer, 1, &plan);
  plan.Add(1, "FUSION selector=" + params.fusion.selector +
                  " ratio=" + Format("%.2f", params.fusion.ratio) +
                  " propagate=" + std::string(PropagationName(params.fusion.propagate)));
  DescribePrediction(answer, 2, &plan);
  if (statement.is_analyze) {
    const FusionTiming& timing = answer.fusion_timing;
    plan.Add(2, "question pass " + Ms(timing.question_ms) + ", propagation weights " +
                    Ms(timing.solve_ms) + ", rows " + Ms(timing.rows_ms));
    plan.Add(2,
             "load " + Ms(timing.load_ms) + " of all threads, by the clock " + Ms(timing.wait_ms));
    DescribeGeneration(answer, 1, &plan);
  }
  ResultSet result = plan.Take();
  result.notices = answer.notices;
  return result;
}

}  // namespace intarsia::engine
