// Session: runs statements for one user and keeps that user's settings.
//
// The statements of a kind stand together: catalog_statements.cc, document_statements.cc,
// answer_statements.cc, index_statements.cc, cache_statements.cc, maintenance_statements.cc. This
// class is their common ground.
//
// Thread safety: owned by one thread.
// Lifetime: the engine must outlive it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "engine/answerer.h"
#include "engine/engine.h"
#include "engine/progress.h"
#include "engine/reranker.h"
#include "engine/retriever.h"
#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/options.h"
#include "query/settings.h"
#include "query/value.h"

namespace intarsia::engine {

struct KvGateReport;

// What a statement may call back while it runs; each may be null.
struct StatementContext {
  const CancelToken* cancel = nullptr;
  ProgressSink* progress = nullptr;
  TokenSink* tokens = nullptr;  // receives answers while they are generated
};

// Texts of a search that are not the one that words are looked for in; empty: that one.
struct SearchTexts {
  std::string_view vector;
  std::string_view rerank;
};

// A search that was run.
struct SearchRun {
  query::BoundOptions options{query::OptionTable::kSearch};
  std::shared_ptr<const EmbeddingModel> embedder;  // null if words alone were looked for
  RetrieveParams params;                           // without its texts and WHERE
  Retrieval found;
};

class Session {
 public:
  explicit Session(Engine* engine) : engine_(*engine) {}

  // Runs one statement. A diagnostic's place is one of `sql`, and Locate was called with it.
  query::Outcome<query::ResultSet> Execute(std::string_view sql, const StatementContext& context);

 private:
  using Rows = query::Outcome<query::ResultSet>;

  Rows Dispatch(const query::Statement& statement, const StatementContext& context);

  // catalog_statements.cc
  Rows Run(const query::CreateModel& statement, const StatementContext& context);
  Rows Run(const query::DropModel& statement);
  Rows Run(const query::ShowModels& statement);
  Rows Run(const query::SetDefaultModel& statement);
  Rows Run(const query::CreateCollection& statement);
  Rows Run(const query::DropCollection& statement, const StatementContext& context);
  Rows Run(const query::AlterCollection& statement);
  Rows Run(const query::ShowCollections& statement);
  Rows Run(const query::Describe& statement);
  // document_statements.cc
  Rows Run(const query::Copy& statement, const StatementContext& context);
  Rows Run(const query::Insert& statement, const StatementContext& context);
  Rows Run(const query::Delete& statement, const StatementContext& context);
  Rows Run(const query::Select& statement, const StatementContext& context);
  // search_statements.cc
  Rows Run(const query::Search& statement, const StatementContext& context);
  // answer_statements.cc
  Rows Run(const query::Answer& statement, const StatementContext& context);
  Rows Run(const query::Explain& statement, const StatementContext& context);
  // index_statements.cc
  Rows Run(const query::ShowIndexes& statement);
  // cache_statements.cc
  Rows Run(const query::CacheCollection& statement, const StatementContext& context);
  Rows Run(const query::ShowCache& statement);
  Rows Run(const query::ClearCache& statement);
  Rows Run(const query::PinCache& statement, const StatementContext& context);
  Rows Run(const query::UnpinCache& statement, const StatementContext& context);
  // kv_gate_statements.cc
  Rows Run(const query::CheckModel& statement, const StatementContext& context);
  // Measures the forms of a new model's caches with `num_prompts` prompts and keeps the result; 0
  // does nothing. Not to have it is no error: the model can be used.
  void GateNewModel(const storage::ModelInfo& info, int64_t num_prompts,
                    const StatementContext& context, query::ResultSet* result);
  Result<KvGateReport> Gate(const storage::ModelInfo& info, int64_t num_prompts,
                            const StatementContext& context);
  // maintenance_statements.cc
  Rows Run(const query::CheckDatabase& statement, const StatementContext& context);
  Rows Run(const query::RepairDatabase& statement, const StatementContext& context);
  Rows Run(const query::BackupDatabase& statement, const StatementContext& context);
  Rows Run(const query::CheckBackup& statement, const StatementContext& context);
  Rows Run(const query::RestoreDatabase& statement, const StatementContext& context);
  Rows Check(storage::CheckMode mode, const StatementContext& context);
  Rows Run(const query::Compact& statement);
  // Deletes the documents and proves that no file holds anything of them.
  Rows Erase(std::span<const storage::DocumentId> documents, const StatementContext& context);
  // session.cc
  Rows Run(const query::SetSetting& statement, const StatementContext& context);
  Rows Run(const query::ShowSettings& statement);

  // Errors: kCatalog with the nearest name.
  query::Outcome<storage::CollectionInfo> FindCollection(const query::Name& name) const;
  query::Outcome<storage::ModelInfo> FindModel(const query::Name& name) const;
  // The model that is named, or the default of its type. Errors: kCatalog that says how to make
  // one.
  query::Outcome<std::shared_ptr<const Generator>> GetGenerator(
      const std::optional<query::Name>& name);
  query::Outcome<std::shared_ptr<const EmbeddingModel>> EmbedderOf(
      const storage::CollectionInfo& collection);
  // What an option `rerank` names; null for 'off'. Errors: kCatalog, with how to register a model.
  query::Outcome<std::shared_ptr<const Reranker>> RerankerOf(const query::BoundOptions& options);
  // The default generator's tokenizer, or null if there is no default.
  std::shared_ptr<const model::Tokenizer> DefaultTokenizer();

  // `embedder` keeps the model of the result alive; it stays null where none is needed.
  query::Outcome<RetrieveParams> BindSearch(const query::Search& statement,
                                            const storage::CollectionInfo& collection,
                                            const query::BoundOptions& options,
                                            std::shared_ptr<const EmbeddingModel>* embedder);
  // What finds chunks, as `options` of SEARCH or ANSWER say.
  query::Failure BindRetrieval(const query::BoundOptions& options, RetrieveParams* params);
  query::Outcome<SearchRun> RunRetrieval(const query::Search& statement, const SearchTexts& texts,
                                         const StatementContext& context);
  query::Outcome<SearchRun> RunRetrieval(const query::Select& statement,
                                         const StatementContext& context);
  // SELECT with SEARCH.
  query::Outcome<query::ResultSet> RunSearch(const query::Select& statement,
                                             const StatementContext& context);
  static query::ResultSet PlanOf(const SearchRun& run, bool is_run);
  query::Outcome<AnswerParams> BindAnswer(const query::Answer& statement,
                                          const EmbeddingModel* embedder);
  // What kv_cache = 'eager' does behind new documents; adds notices to `result`.
  query::Failure BuildEagerCaches(const storage::CollectionInfo& collection,
                                  const StatementContext& context, query::ResultSet* result);
  // The chunks of a collection that meet the condition, all without one.
  query::Outcome<std::vector<storage::KvOwner>> FindChunks(
      const query::Name& name, const std::optional<query::Predicate>& where,
      const StatementContext& context);
  // Computes the caches of chunks that have none.
  query::Outcome<query::ResultSet> BuildCaches(const storage::CollectionInfo& collection,
                                               const query::Predicate* where,
                                               std::shared_ptr<const Generator> generator,
                                               const StatementContext& context);

  Engine& engine_;
  query::Settings settings_;
};

}  // namespace intarsia::engine
