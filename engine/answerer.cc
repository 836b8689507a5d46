#include "engine/answerer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "base/stopwatch.h"
#include "base/utf8.h"
#include "engine/answer_prompt.h"
#include "engine/answer_writer.h"
#include "engine/fusion/kv_builder.h"
#include "engine/kv_identity.h"
#include "engine/notices.h"

namespace intarsia::engine {
namespace {

constexpr std::string_view kRefusal = "The documents do not say.";

// Tokens of a prompt and its answer together: what the model was trained for, or less if it was
// registered with less.
int64_t ContextLengthOf(const Generator& generator) {
  const int64_t trained = generator.transformer->config().context_length;
  return std::min(trained,
                  storage::NumberOptionOr(generator.info.parameters, "context_tokens", trained));
}

}  // namespace

// What a question becomes on its way.
struct Answerer::Job {
  Job(const AnswerParams& the_params, const CancelToken* the_cancel)
      : params(the_params), cancel(the_cancel) {}

  const AnswerParams& params;
  const CancelToken* const cancel;
  Stopwatch total;
  uint64_t generation = 0;

  KvFamily family;
  std::vector<int32_t> header;
  std::vector<int32_t> question;
  std::vector<std::string> texts;  // of the chunks
  std::vector<Passage> passages;
  std::vector<std::unique_ptr<KvSource>> caches;  // null for a miss
  int64_t num_cached_bytes = 0;                   // of chunks
  int64_t num_cached_tokens = 0;
  FusionOptions fusion;                    // with the ratio that will be used
  std::shared_ptr<FusionCostModel> costs;  // of where it runs
  StartedRun started;
  AnswerResult result;
};

Answerer::Answerer(storage::Database* database, Retriever* retriever, KvManager* kv,
                   FusionBackends* backends)
    : database_(database), retriever_(retriever), kv_(kv), backends_(backends) {}

query::Failure Answerer::Retrieve(Job* job) const {
  const AnswerParams& params = job->params;
  if (params.retrieve.text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return query::InputError({}, "the question is empty");
  }
  query::Outcome<Retrieval> found = retriever_->Retrieve(params.retrieve, job->cancel);
  if (!found.ok()) return std::move(found).diagnostic();
  job->result.retrieval = *std::move(found);
  Retrieval& retrieval = job->result.retrieval;
  job->result.notices = retrieval.notices;
  // Of vectors only: the scores of words depend on how many there are.
  const double best = retrieval.best_vector_score.value_or(params.min_score);
  const bool has_evidence = !retrieval.chunks.empty() && best >= params.min_score;
  if (!has_evidence && params.on_no_evidence == OnNoEvidence::kRefuse) {
    job->result.is_refusal = true;
    job->result.notices.push_back(retrieval.chunks.empty()
                                      ? "no chunk matches, so there is nothing to answer from"
                                      : "no chunk is near enough to the question: best cosine " +
                                            std::to_string(best) + ", min_score " +
                                            std::to_string(params.min_score));
    retrieval.chunks.clear();
  }
  if (params.order == ChunkOrder::kReverse) std::ranges::reverse(retrieval.chunks);
  if (params.order == ChunkOrder::kDocument) {
    std::ranges::sort(retrieval.chunks, {}, [](const RetrievedChunk& hit) { return hit.chunk.id; });
  }
  job->result.timing.retrieve_ms = job->total.milliseconds();
  return {};
}

query::Failure Answerer::BuildPrompt(Job* job) const {
  const Generator& generator = *job->params.generator;
  const storage::ReadView& view = *job->result.retrieval.view;
  const auto build = [&]() -> Status {
    INTARSIA_ASSIGN_OR_RETURN(job->header, EncodeAnswerHeader(generator));
    INTARSIA_ASSIGN_OR_RETURN(job->question,
                              EncodeAnswerQuestion(generator, job->params.retrieve.text));
    for (const RetrievedChunk& hit : job->result.retrieval.chunks) {
      INTARSIA_ASSIGN_OR_RETURN(
          std::string text,
          view.GetTextRange(hit.document.text_digest, hit.chunk.byte_begin, hit.chunk.byte_end));
      INTARSIA_ASSIGN_OR_RETURN(Passage passage,
                                EncodePassage(*generator.tokenizer, hit.document, hit.chunk, text));
      job->texts.push_back(std::move(text));
      job->passages.push_back(std::move(passage));
    }
    return Status::Ok();
  };
  if (const Status status = build(); !status.ok()) return query::FromStatus(status);
  const bool has_passages = !job->passages.empty();
  FitContext(job);
  if (has_passages && job->passages.empty() &&
      job->params.on_no_evidence == OnNoEvidence::kRefuse) {
    return query::InputError(
        {},
        "no passage fits the model's context of " + std::to_string(ContextLengthOf(generator)) +
            " tokens beside the question and max_tokens = " +
            std::to_string(job->params.max_tokens),
        "Give a smaller max_tokens, a shorter question, or a collection with smaller chunks.");
  }
  FusionBackends::Placement placement = backends_->PlacementOf(job->params.device, generator);
  job->result.device = std::move(placement.device);
  job->costs = std::move(placement.costs);
  FindCaches(job);
  Predict(job);
  return {};
}

// Finds the caches that may be used and are worth loading.
void Answerer::FindCaches(Job* job) const {
  const Generator& generator = *job->params.generator;
  const model::ModelConfig& config = generator.transformer->config();
  job->family = KvFamilyOf(generator, job->header, job->params.retrieve.collection);
  for (size_t index = 0; index < job->passages.size(); ++index) {
    const std::vector<int32_t>& tokens = job->passages[index].tokens;
    const bool is_wanted = job->params.reuse == CacheReuse::kChunks ||
                           (job->params.reuse == CacheReuse::kPrefix && index == 0);
    const int64_t num_bytes =
        config.num_layers *
        kernels::KvPayloadBytes(job->family.type, std::ssize(tokens), config.kv_size());
    std::unique_ptr<KvSource>& cache = job->caches.emplace_back();
    if (!is_wanted || !job->costs->IsWorthLoading(num_bytes, std::ssize(tokens))) continue;
    cache = kv_->Find(job->family, tokens);
    if (cache == nullptr) continue;
    job->num_cached_bytes += num_bytes;
    job->num_cached_tokens += std::ssize(tokens);
    ++job->result.num_cached_chunks;
  }
  job->fusion = job->params.fusion;
  if (job->fusion.selector != "none" && job->fusion.selector != "full") {
    job->fusion.ratio =
        job->costs->RatioFor(job->fusion.ratio, job->num_cached_bytes, job->num_cached_tokens);
  }
}

// What the prompt will be made of, and how long that will take.
void Answerer::Predict(Job* job) const {
  FusionUsage& usage = job->result.usage;
  usage.prompt_tokens = std::ssize(job->header) + std::ssize(job->question);
  usage.reused_tokens = job->params.reuse == CacheReuse::kNone ? 0 : std::ssize(job->header);
  int64_t num_candidates = 0;
  for (size_t index = 0; index < job->passages.size(); ++index) {
    const int64_t size = std::ssize(job->passages[index].tokens);
    usage.prompt_tokens += size;
    if (job->caches[index] == nullptr) continue;
    usage.reused_tokens += size;
    if (index > 0) num_candidates += size;
  }
  usage.fresh_tokens = usage.prompt_tokens - usage.reused_tokens;
  const double ratio = job->fusion.selector == "full"   ? 1.0
                       : job->fusion.selector == "none" ? 0.0
                                                        : job->fusion.ratio;
  usage.recomputed_tokens = std::llround(ratio * static_cast<double>(num_candidates));
  usage.reused_tokens -= usage.recomputed_tokens;
  job->result.predicted_load_ms = job->costs->PredictLoadMs(job->num_cached_bytes);
  job->result.predicted_rows_ms =
      job->costs->PredictRowsMs(usage.recomputed_tokens + usage.fresh_tokens);
  job->result.predicted_full_ms = job->costs->PredictRowsMs(usage.prompt_tokens);
}

// Leaves out the chunks of lowest score that the model's context has no room for.
void Answerer::FitContext(Job* job) const {
  const int64_t context_length = ContextLengthOf(*job->params.generator);
  std::vector<RetrievedChunk>& chunks = job->result.retrieval.chunks;
  int64_t num_tokens = std::ssize(job->header) + std::ssize(job->question) + job->params.max_tokens;
  for (const Passage& passage : job->passages) num_tokens += std::ssize(passage.tokens);
  std::string left_out;
  while (num_tokens > context_length && !chunks.empty()) {
    // Those that were ranked again come before the others.
    const auto worst = std::ranges::min_element(chunks, {}, [](const RetrievedChunk& hit) {
      return std::pair(hit.rerank_score.value_or(-std::numeric_limits<double>::infinity()),
                       hit.score);
    });
    const auto index = worst - chunks.begin();
    left_out += (left_out.empty() ? "" : ", ") + worst->document.source + " chunk " +
                std::to_string(worst->chunk.ordinal);
    num_tokens -= std::ssize(job->passages[static_cast<size_t>(index)].tokens);
    chunks.erase(worst);
    job->passages.erase(job->passages.begin() + index);
    job->texts.erase(job->texts.begin() + index);
  }
  if (!left_out.empty()) {
    job->result.notices.push_back("left out, because the model's context has " +
                                  std::to_string(context_length) + " tokens: " + left_out);
  }
}

Status Answerer::Prefill(Job* job) const {
  const AnswerParams& params = job->params;
  std::shared_ptr<const KvSource> header_kv;
  if (params.reuse != CacheReuse::kNone) {
    INTARSIA_ASSIGN_OR_RETURN(header_kv, kv_->Header({.generator = params.generator.get(),
                                                      .header = job->header,
                                                      .family = job->family,
                                                      .device = params.device,
                                                      .cancel = job->cancel},
                                                     &job->result.notices));
  }
  std::vector<PromptPart> parts;
  for (size_t index = 0; index < job->passages.size(); ++index) {
    parts.push_back({.tokens = job->passages[index].tokens, .cached = job->caches[index].get()});
  }
  INTARSIA_ASSIGN_OR_RETURN(
      const Prompt prompt,
      Prompt::Create({.tokens = job->header, .cached = header_kv.get()}, parts, job->question));
  const int64_t context_length = ContextLengthOf(*params.generator);
  if (prompt.num_tokens() + params.max_tokens > context_length) {
    return Status(StatusCode::kInvalidArgument,
                  "the question does not fit the model's context of " +
                      std::to_string(context_length) +
                      " tokens: prompt=" + std::to_string(prompt.num_tokens()) +
                      " max_tokens=" + std::to_string(params.max_tokens));
  }
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(PlacedRun placed,
                            backends_->Prefill(params.device, *params.generator,
                                               {.prompt = &prompt,
                                                .fusion = job->fusion,
                                                .num_new_tokens_max = params.max_tokens,
                                                .cancel = job->cancel}));
  job->started = std::move(placed.started);
  job->result.device = placed.device;
  for (std::string& notice : placed.notices) {
    // What keeps the header from a device, keeps the prompt from it too.
    AddNotice(std::move(notice), &job->result.notices);
  }
  const FusionUsage& usage = job->started.usage;
  const FusionTiming& timing = job->started.timing;
  job->result.usage = usage;
  job->result.fusion_timing = timing;
  job->result.timing.prefill_ms = stopwatch.milliseconds();
  job->result.timing.load_ms = timing.load_ms;
  placed.costs->ObserveRows(usage.recomputed_tokens + usage.fresh_tokens, timing.rows_ms);
  // What a device had to wait for the disk for is in memory when it is asked for again, and would
  // never be if it counted.
  if (timing.read_bytes == 0) placed.costs->ObserveLoad(job->num_cached_bytes, timing.wait_ms);
  if (!job->started.lost_segments.empty()) {
    job->result.notices.push_back(std::to_string(job->started.lost_segments.size()) +
                                  " damaged KV caches were put aside and computed again");
    for (const size_t segment : job->started.lost_segments) {
      if (segment > 0) job->caches[segment - 1] = nullptr;  // segment 0 is the header
    }
  }
  return Status::Ok();
}

Status Answerer::Generate(Job* job, TokenSink* sink) const {
  const AnswerParams& params = job->params;
  const Generator& generator = *params.generator;
  std::vector<CitedPassage> cited;
  int64_t position = std::ssize(job->header);
  for (size_t index = 0; index < job->passages.size(); ++index) {
    cited.push_back({.text = job->texts[index],
                     .token_begin = position,
                     .ranges = job->passages[index].ranges,
                     .heading = job->passages[index].heading});
    position += std::ssize(job->passages[index].tokens);
  }
  position = job->started.usage.prompt_tokens;
  Citer citer(std::move(cited));
  AnswerWriter writer(*generator.tokenizer, citer, sink);
  INTARSIA_ASSIGN_OR_RETURN(const model::Sampler sampler, model::Sampler::Create(params.sampling));
  const Stopwatch decode;
  INTARSIA_ASSIGN_OR_RETURN(int32_t token, sampler.Next(job->started.logits, position - 1));
  AnswerResult& result = job->result;
  bool is_stopped = false;
  while (result.generated_tokens < params.max_tokens) {
    if (result.generated_tokens == 0) result.timing.ttft_ms = job->total.milliseconds();
    is_stopped = generator.tokenizer->IsStop(token);
    if (is_stopped) break;
    ++result.generated_tokens;
    INTARSIA_RETURN_IF_ERROR(writer.Push(token));
    is_stopped = writer.is_over();
    if (is_stopped) break;
    const Result<FusedStep> step = job->started.run->Step(token, position++, sampler, job->cancel);
    if (!step.ok()) return FusionBackends::ErrorAt(result.device, step.status());
    token = step->next_token;
    citer.AddStep(writer.plain_bytes(), step->attention);
  }
  writer.Finish();
  if (!is_stopped) {
    result.notices.push_back("the answer was cut at max_tokens = " +
                             std::to_string(params.max_tokens));
  }
  result.timing.decode_ms = decode.milliseconds();
  result.text = writer.text();
  for (const Citation& citation : writer.citations()) {
    const RetrievedChunk& hit = result.retrieval.chunks[citation.passage];
    CitedSource& source = result.citations.emplace_back();
    source.n = std::ssize(result.citations);
    source.document = hit.document.id;
    source.source = hit.document.source;
    source.chunk = hit.chunk.id;
    source.bytes = {.begin = hit.chunk.byte_begin + citation.quote.begin,
                    .end = hit.chunk.byte_begin + citation.quote.end};
    source.answer = citation.answer;
    source.quote = std::string(citation.quote.Of(job->texts[citation.passage]));
    source.score = citation.score;
    // The offsets are checked against the text as it is stored, from its first byte.
    INTARSIA_ASSIGN_OR_RETURN(
        const std::string front,
        result.retrieval.view->GetTextRange(hit.document.text_digest, 0, source.bytes.end));
    if (front.substr(static_cast<size_t>(source.bytes.begin)) != source.quote) {
      return Status(StatusCode::kInternal,
                    "a citation does not match its document: source=" + source.source);
    }
    const int64_t end = CountCodePoints(front);
    source.characters = {.begin = end - CountCodePoints(source.quote), .end = end};
  }
  return Status::Ok();
}

void Answerer::QueueCaches(const Job& job) const {
  const storage::CollectionInfo& collection = job.params.retrieve.collection;
  if (database_->access() == storage::AccessMode::kReadOnly) return;
  if (!job.params.writes_behind || job.params.reuse != CacheReuse::kChunks ||
      storage::OptionOr(collection.options, "kv_cache", "lazy") == "off") {
    return;
  }
  for (size_t index = 0; index < job.passages.size(); ++index) {
    // One that was found may belong to another chunk of the same passage so far.
    const RetrievedChunk& hit = job.result.retrieval.chunks[index];
    kv_->Enqueue({.generator = job.params.generator,
                  .header = job.header,
                  .tokens = job.passages[index].tokens,
                  .family = job.family,
                  .owner = {.collection = collection.id,
                            .document = hit.document.id,
                            .chunk = hit.chunk.id,
                            .model = job.params.generator->info.id},
                  .generation = job.generation,
                  .device = job.params.device});
  }
}

query::Outcome<AnswerResult> Answerer::Plan(const AnswerParams& params, const CancelToken* cancel) {
  Job job(params, cancel);
  INTARSIA_FAIL_IF(Retrieve(&job));
  if (!job.result.is_refusal) INTARSIA_FAIL_IF(BuildPrompt(&job));
  return std::move(job.result);
}

query::Outcome<AnswerResult> Answerer::Answer(const AnswerParams& params, TokenSink* sink,
                                              const CancelToken* cancel) {
  Job job(params, cancel);
  job.generation = database_->kv()->generation();
  INTARSIA_FAIL_IF(Retrieve(&job));
  if (job.result.is_refusal) {
    job.result.text = kRefusal;
    if (sink != nullptr) sink->Write(job.result.text);
    job.result.timing.total_ms = job.total.milliseconds();
    return std::move(job.result);
  }
  INTARSIA_FAIL_IF(BuildPrompt(&job));
  if (const Status status = Prefill(&job); !status.ok()) return query::FromStatus(status);
  if (const Status status = Generate(&job, sink); !status.ok()) return query::FromStatus(status);
  QueueCaches(job);
  job.result.timing.total_ms = job.total.milliseconds();
  return std::move(job.result);
}

}  // namespace intarsia::engine
