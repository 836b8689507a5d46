#include "engine/session.h"

#include <chrono>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/counted.h"
#include "query/lexer.h"
#include "query/parser.h"
#include "query/suggest.h"

namespace intarsia::engine {
namespace {

constexpr const char* kDiskBytesMax = "kv.disk_bytes_max";
constexpr const char* kMemoryBytesMax = "kv.memory_bytes_max";
constexpr const char* kTimeout = "statement_timeout_ms";

template <typename Kind, typename... Others>
constexpr bool kIsOneOf = (std::is_same_v<Kind, Others> || ...);

template <typename Kind>
constexpr bool kIsWrite =
    kIsOneOf<Kind, query::CreateModel, query::DropModel, query::SetDefaultModel,
             query::CreateCollection, query::AlterCollection, query::DropCollection, query::Copy,
             query::Insert, query::Compact, query::Delete, query::CheckModel,
             query::CacheCollection, query::ClearCache, query::PinCache, query::UnpinCache,
             query::RepairDatabase>;

CancelToken::Clock::time_point DeadlineOf(const query::Settings& settings) {
  const int64_t timeout_ms = settings.GetInteger(kTimeout);
  if (timeout_ms == 0) return CancelToken::Clock::time_point::max();
  return CancelToken::Clock::now() + std::chrono::milliseconds(timeout_ms);
}

// Brings the caches on disk within their limit, and returns what there is to say about it.
std::vector<std::string> ShrinkCaches(Engine* engine, const CancelToken* cancel) {
  if (engine->database()->access() == storage::AccessMode::kReadOnly) return {};
  const Result<storage::KvShrunk> shrunk = engine->database()->kv()->Shrink(cancel);
  engine->backends()->ForgetRemovedCaches();
  if (!shrunk.ok()) {
    return {"the limit holds; caches above it go when the next one is written: " +
            std::string(shrunk.status().message())};
  }
  std::vector<std::string> notices;
  if (shrunk->num_removed > 0 || shrunk->bytes_freed > 0) {
    notices.push_back(Counted(shrunk->num_removed, "cache") +
                      (shrunk->num_removed == 1 ? " was" : " were") + " removed, and " +
                      Counted(shrunk->bytes_freed, "byte") + " of disk freed");
  }
  if (shrunk->bytes_above > 0) {
    notices.push_back("caches that are pinned or in use stay, and take " +
                      Counted(shrunk->bytes_above, "byte") + " more than " +
                      std::string(kDiskBytesMax) +
                      "; UNPIN CACHE FOR some, or set it again when other statements have ended");
  }
  return notices;
}

}  // namespace

query::Outcome<query::ResultSet> Session::Execute(std::string_view sql,
                                                  const StatementContext& context) {
  query::Outcome<query::Statement> statement = query::ParseStatement(sql);
  if (!statement.ok()) return std::move(statement).diagnostic();
  const KvManager::StatementScope scope(engine_.kv());
  const CancelToken cancel(context.cancel, DeadlineOf(settings_));
  StatementContext limited = context;
  limited.cancel = &cancel;
  query::Outcome<query::ResultSet> result = Dispatch(*statement, limited);
  if (result.ok()) return result;
  query::Diagnostic& diagnostic = result.diagnostic();
  if (diagnostic.error_class == query::ErrorClass::kTimeout) {
    diagnostic.message = "the statement ran longer than " + std::string(kTimeout) + " = " +
                         std::to_string(settings_.GetInteger(kTimeout));
  }
  query::Locate(sql, &diagnostic);
  return result;
}

query::Outcome<query::ResultSet> Session::Dispatch(const query::Statement& statement,
                                                   const StatementContext& context) {
  return std::visit(
      [&](const auto& kind) -> Rows {
        if constexpr (kIsWrite<std::remove_cvref_t<decltype(kind)>>) {
          if (engine_.database()->access() == storage::AccessMode::kReadOnly) {
            return Status(StatusCode::kUnsupported,
                          "the database is open read-only: " + engine_.database()->path());
          }
        }
        const auto run = [&]() -> Rows {
          if constexpr (requires { Run(kind, context); }) {
            return Run(kind, context);
          } else {
            return Run(kind);
          }
        };
        Rows rows = run();
        // What a write took from the store, devices need not keep.
        if constexpr (kIsWrite<std::remove_cvref_t<decltype(kind)>>) {
          engine_.backends()->ForgetRemovedCaches();
        }
        return rows;
      },
      statement);
}

query::Outcome<query::ResultSet> Session::Run(const query::SetSetting& statement,
                                              const StatementContext& context) {
  query::Settings changed = settings_;
  INTARSIA_FAIL_IF(changed.Set(statement));
  query::ResultSet result;
  // All sessions share disk and memory, so the last one that says so decides.
  if (query::EqualsIgnoringCase(statement.name.text, kDiskBytesMax)) {
    INTARSIA_RETURN_IF_ERROR(
        engine_.database()->kv()->SetBudget(changed.GetInteger(kDiskBytesMax)));
    result.notices = ShrinkCaches(&engine_, context.cancel);
  }
  if (query::EqualsIgnoringCase(statement.name.text, kMemoryBytesMax)) {
    INTARSIA_RETURN_IF_ERROR(
        engine_.database()->kv()->SetMemoryBudget(changed.GetInteger(kMemoryBytesMax)));
  }
  if (query::EqualsIgnoringCase(statement.name.text, kDeviceSetting)) {
    const auto choice = ParseDeviceChoice(changed.GetText(kDeviceSetting));
    if (!choice.ok()) {
      return query::BinderError(statement.value.range, std::string(choice.status().message()),
                                "For example SET device = 'cuda:0'.");
    }
    INTARSIA_RETURN_IF_ERROR(engine_.backends()->Check(*choice));
    engine_.retriever()->device_codes()->Retry();
  }
  if (query::EqualsIgnoringCase(statement.name.text, kDeviceCodeBytesMax)) {
    engine_.retriever()->device_codes()->SetBytesMax(changed.GetInteger(kDeviceCodeBytesMax));
  }
  if (query::EqualsIgnoringCase(statement.name.text, kDeviceKvBytesMax)) {
    engine_.backends()->SetBudgets({.kv_bytes_max = changed.GetInteger(kDeviceKvBytesMax)});
  }
  if (query::EqualsIgnoringCase(statement.name.text, kDeviceCacheBytesMax)) {
    engine_.backends()->SetBudgets({.cache_bytes_max = changed.GetInteger(kDeviceCacheBytesMax)});
  }
  settings_ = std::move(changed);
  return result;
}

query::Outcome<query::ResultSet> Session::Run(const query::ShowSettings& statement) {
  return settings_.Show(statement);
}

query::Outcome<storage::CollectionInfo> Session::FindCollection(const query::Name& name) const {
  const storage::ReadView view = engine_.database()->Read();
  Result<storage::CollectionInfo> found = view.FindCollection(name.text);
  if (found.ok()) return *std::move(found);
  if (found.status().code() != StatusCode::kNotFound) return found.status();
  INTARSIA_ASSIGN_OR_RETURN(const auto collections, view.ListCollections());
  std::vector<std::string> names;
  for (const storage::CollectionInfo& collection : collections) names.push_back(collection.name);
  return query::CatalogError(name.range, "collection \"" + name.text + "\" does not exist",
                             query::DidYouMean(query::NearestName(name.text, names)));
}

query::Outcome<storage::ModelInfo> Session::FindModel(const query::Name& name) const {
  const storage::ReadView view = engine_.database()->Read();
  Result<storage::ModelInfo> found = view.FindModel(name.text);
  if (found.ok()) return *std::move(found);
  if (found.status().code() != StatusCode::kNotFound) return found.status();
  INTARSIA_ASSIGN_OR_RETURN(const auto models, view.ListModels());
  std::vector<std::string> names;
  for (const storage::ModelInfo& model : models) names.push_back(model.name);
  return query::CatalogError(name.range, "model \"" + name.text + "\" does not exist",
                             query::DidYouMean(query::NearestName(name.text, names)));
}

query::Outcome<std::shared_ptr<const Generator>> Session::GetGenerator(
    const std::optional<query::Name>& name) {
  storage::ModelInfo info;
  if (name.has_value()) {
    INTARSIA_ASSIGN_OR_FAIL(info, FindModel(*name));
    if (info.type != storage::ModelType::kGenerate) {
      return query::BinderError(name->range, "model \"" + info.name + "\" does not generate text",
                                info.type == storage::ModelType::kRerank
                                    ? "It is a model that reranks."
                                    : "It is an embedding model.");
    }
  } else {
    const storage::ReadView view = engine_.database()->Read();
    const Result<std::string> setting = view.GetSetting("default_generate");
    Result<storage::ModelInfo> found =
        setting.ok() ? view.FindModel(*setting) : Result<storage::ModelInfo>(setting.status());
    if (!found.ok()) {
      return query::CatalogError({}, "there is no default model to generate",
                                 "Register one: CREATE MODEL qa TYPE GENERATE FROM 'model.gguf'; "
                                 "or name one with USING.");
    }
    info = *std::move(found);
  }
  INTARSIA_ASSIGN_OR_RETURN(auto generator, engine_.models()->GetGenerator(info));
  return generator;
}

query::Outcome<std::shared_ptr<const EmbeddingModel>> Session::EmbedderOf(
    const storage::CollectionInfo& collection) {
  const std::string name = storage::OptionOr(collection.options, "embedding", "");
  const storage::ReadView view = engine_.database()->Read();
  const Result<storage::ModelInfo> info = view.FindModel(name);
  if (!info.ok()) {
    return query::CatalogError(
        {},
        "the embedding model of collection \"" + collection.name +
            "\" does not exist: " + (name.empty() ? "none is set" : name),
        "Register it again with CREATE MODEL ... TYPE EMBEDDING FROM 'folder'.");
  }
  const std::string digest = info->weights_digest.ToHex();
  if (storage::OptionOr(collection.options, "embedding_digest", digest) != digest) {
    return query::CatalogError(
        {},
        "model \"" + info->name + "\" is not the one that embedded collection \"" +
            collection.name + "\"",
        "Register the old model under this name, or load the documents into a new collection.");
  }
  INTARSIA_ASSIGN_OR_RETURN(auto embedder, engine_.models()->GetEmbedder(*info));
  return embedder;
}

query::Outcome<std::shared_ptr<const Reranker>> Session::RerankerOf(
    const query::BoundOptions& options) {
  std::string name = options.GetText("rerank");
  const query::SourceRange range = options.RangeOf("rerank");
  if (query::EqualsIgnoringCase(name, "off")) return std::shared_ptr<const Reranker>();
  if (query::EqualsIgnoringCase(name, "auto")) {
    const storage::ReadView view = engine_.database()->Read();
    Result<std::string> chosen = view.GetSetting("default_rerank");
    if (!chosen.ok()) chosen = view.GetSetting("default_generate");
    if (!chosen.ok()) {
      return query::CatalogError(
          range, "there is no model to rerank by",
          "Register one: CREATE MODEL ce TYPE RERANK FROM 'folder', or a generator.");
    }
    name = *std::move(chosen);
  }
  INTARSIA_ASSIGN_OR_FAIL(const storage::ModelInfo info, FindModel({.text = name, .range = range}));
  if (info.type == storage::ModelType::kEmbedding) {
    return query::BinderError(range, "model \"" + info.name + "\" embeds and does not rerank",
                              "rerank takes a model of TYPE RERANK or GENERATE, 'auto' or 'off'.");
  }
  if (info.type == storage::ModelType::kRerank) {
    INTARSIA_ASSIGN_OR_RETURN(auto model, engine_.models()->GetReranker(info));
    return MakeReranker(std::move(model));
  }
  INTARSIA_ASSIGN_OR_RETURN(auto generator, engine_.models()->GetGenerator(info));
  return MakeReranker(std::move(generator));
}

std::shared_ptr<const model::Tokenizer> Session::DefaultTokenizer() {
  const storage::ReadView view = engine_.database()->Read();
  const Result<std::string> name = view.GetSetting("default_generate");
  if (!name.ok()) return nullptr;
  const Result<storage::ModelInfo> info = view.FindModel(*name);
  if (!info.ok()) return nullptr;
  auto tokenizer = engine_.models()->GetTokenizer(*info);
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

}  // namespace intarsia::engine
