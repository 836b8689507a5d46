// Answerer: one question from retrieval to cited answer.
//
// One walk: retrieve chunks, join their tokens into a prompt, find their caches, prefill by fusion,
// generate, and trace each sentence back to the passages. Chunks whose cache was missing are queued
// to be cached behind the answer.
//
// Thread safety: owned by one thread, which shares the arithmetic with the pool.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "engine/citer.h"
#include "engine/device_choice.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion_backends.h"
#include "engine/kv_manager.h"
#include "engine/model_registry.h"
#include "engine/retriever.h"
#include "model/sampler.h"
#include "query/diagnostic.h"
#include "storage/database.h"

namespace intarsia::engine {

// Receives the answer while it is generated. Called on the thread that asked.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // A piece of well-formed UTF-8; all pieces joined are AnswerResult::text.
  virtual void Write(std::string_view text) = 0;
};

enum class OnNoEvidence : uint8_t { kRefuse, kAnswer };
enum class ChunkOrder : uint8_t { kScore, kReverse, kDocument };
// Which caches may be used.
enum class CacheReuse : uint8_t {
  kChunks,  // all: fusion
  kPrefix,  // the header's and the first chunk's, as a prefix cache would
  kNone,    // none: full prefill
};

struct AnswerParams {
  RetrieveParams retrieve;
  std::shared_ptr<const Generator> generator;
  int64_t max_tokens = 256;
  model::SamplerOptions sampling;
  FusionOptions fusion;
  DeviceChoice device;
  CacheReuse reuse = CacheReuse::kChunks;
  ChunkOrder order = ChunkOrder::kScore;
  OnNoEvidence on_no_evidence = OnNoEvidence::kRefuse;
  double min_score = 0.0;     // of the best chunk, below which there is no evidence
  bool writes_behind = true;  // whether missing caches are queued
};

struct CitedSource {
  int64_t n = 0;  // the number in the text
  storage::DocumentId document = 0;
  std::string source;
  storage::ChunkId chunk = 0;
  query::ByteRange bytes;       // in the document's text
  query::ByteRange characters;  // the same in code points
  query::ByteRange answer;      // the first sentence of `text` that it supports, in bytes
  std::string quote;
  double score = 0.0;
};

struct AnswerTiming {
  double retrieve_ms = 0.0;
  double load_ms = 0.0;
  double prefill_ms = 0.0;
  double ttft_ms = 0.0;  // from the question to the first token
  double decode_ms = 0.0;
  double total_ms = 0.0;
};

struct AnswerResult {
  std::string text;  // with [n] behind the sentences that are cited
  bool is_refusal = false;
  std::vector<CitedSource> citations;
  FusionUsage usage;
  int64_t generated_tokens = 0;
  AnswerTiming timing;
  FusionTiming fusion_timing;
  std::string device;   // where the prompt is run: "cpu" or "cuda:N"
  Retrieval retrieval;  // with the chunks that are in the prompt, in its order
  int64_t num_cached_chunks = 0;
  // Negative until something was measured.
  double predicted_load_ms = -1.0;
  double predicted_rows_ms = -1.0;
  double predicted_full_ms = -1.0;
  std::vector<std::string> notices;
};

class Answerer {
 public:
  Answerer(storage::Database* database, Retriever* retriever, KvManager* kv,
           FusionBackends* backends);

  // Errors: those of Retrieve and FusionBackends::Prefill; kInput if the question is empty or the
  // prompt does not fit the model; kCancelled.
  query::Outcome<AnswerResult> Answer(const AnswerParams& params, TokenSink* sink,
                                      const CancelToken* cancel);

  // The prompt that Answer would run, and which of its chunks are cached, without running it.
  query::Outcome<AnswerResult> Plan(const AnswerParams& params, const CancelToken* cancel);

 private:
  struct Job;
  query::Failure Retrieve(Job* job) const;
  query::Failure BuildPrompt(Job* job) const;
  void FitContext(Job* job) const;
  void FindCaches(Job* job) const;
  void Predict(Job* job) const;
  Status Prefill(Job* job) const;
  Status Generate(Job* job, TokenSink* sink) const;
  void QueueCaches(const Job& job) const;

  storage::Database* const database_;
  Retriever* const retriever_;
  KvManager* const kv_;
  FusionBackends* const backends_;
};

}  // namespace intarsia::engine
