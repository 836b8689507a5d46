// Statements about models and collections.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "engine/collection_rows.h"
#include "engine/kv_gate.h"
#include "engine/kv_identity.h"
#include "engine/session.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

constexpr std::string_view kDefaultGenerate = "default_generate";
constexpr std::string_view kDefaultEmbedding = "default_embedding";
constexpr std::string_view kDefaultRerank = "default_rerank";

std::string_view DefaultSettingOf(storage::ModelType type) {
  if (type == storage::ModelType::kRerank) return kDefaultRerank;
  return type == storage::ModelType::kEmbedding ? kDefaultEmbedding : kDefaultGenerate;
}

std::string_view TypeName(storage::ModelType type) {
  if (type == storage::ModelType::kRerank) return "rerank";
  return type == storage::ModelType::kEmbedding ? "embedding" : "generate";
}

// What a model does: "model m is now the default to <this>".
std::string_view VerbOf(storage::ModelType type) {
  if (type == storage::ModelType::kRerank) return "rerank";
  return type == storage::ModelType::kEmbedding ? "embed" : "generate";
}

storage::ModelType StoredType(query::ModelType type) {
  if (type == query::ModelType::kRerank) return storage::ModelType::kRerank;
  return type == query::ModelType::kEmbedding ? storage::ModelType::kEmbedding
                                              : storage::ModelType::kGenerate;
}

ResultSet NothingToDrop(std::string_view kind, const query::Name& name) {
  ResultSet result;
  result.notices.push_back(std::string(kind) + " " + name.text +
                           " does not exist, nothing changed");
  return result;
}

// Prompts of CREATE MODEL's gate by its option.
int64_t GatePromptsOf(std::string_view gate) {
  if (gate == "off") return 0;
  return gate == "full" ? kFullGatePrompts : kQuickGatePrompts;
}

// A file or folder that is no model: the user's mistake, whatever reading it came upon.
query::Diagnostic BadModel(const Status& status, const query::Text& path, storage::ModelType type) {
  query::Diagnostic diagnostic = query::FromStatus(status);
  diagnostic.range = path.range;
  if (status.code() == StatusCode::kNotFound || status.code() == StatusCode::kCorruption) {
    diagnostic.error_class = query::ErrorClass::kInput;
  }
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(path.text, error);
  if (error || !std::filesystem::exists(path.text, error)) return diagnostic;
  if (is_folder && type == storage::ModelType::kGenerate) {
    diagnostic.hint = "A model that generates is one GGUF file; a folder embeds or reranks.";
  } else if (!is_folder && type != storage::ModelType::kGenerate) {
    diagnostic.hint =
        "A model that embeds or reranks is a folder; without TYPE a file is one that generates.";
  } else if (is_folder && status.code() == StatusCode::kNotFound) {
    diagnostic.hint = "The folder needs config.json, model.safetensors and vocab.txt.";
  }
  return diagnostic;
}

// What is embedded of a chunk ends where the embedder stops reading, so a default chunk is no
// larger than that, with room for its title and headings.
int64_t DefaultChunkTokens(const storage::ModelInfo& embedder) {
  constexpr int64_t kMost = 384;
  constexpr int64_t kLeast = 16;
  constexpr int64_t kHeadings = 32;
  const int64_t read =
      storage::NumberOptionOr(embedder.parameters, "max_tokens", kMost + kHeadings);
  return std::clamp(read - kHeadings, kLeast, kMost);
}

}  // namespace

query::Outcome<ResultSet> Session::Run(const query::CreateModel& statement,
                                       const StatementContext& context) {
  storage::Database& database = *engine_.database();
  if (database.Read().FindModel(statement.name.text).ok()) {
    if (!statement.if_not_exists) {
      return query::CatalogError(statement.name.range,
                                 "model \"" + statement.name.text + "\" exists already",
                                 "Use CREATE MODEL IF NOT EXISTS, or DROP MODEL first.");
    }
    ResultSet result;
    result.notices.push_back("model " + statement.name.text + " exists already, nothing changed");
    return result;
  }
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kCreateModel, statement.options));
  // A folder is an embedder in the manner of sentence-transformers, a file a GGUF generator.
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(statement.path.text, error);
  storage::ModelType type =
      is_folder ? storage::ModelType::kEmbedding : storage::ModelType::kGenerate;
  if (statement.type != query::ModelType::kUnspecified) type = StoredType(statement.type);
  const std::string path = std::filesystem::absolute(statement.path.text, error).string();
  Result<storage::ModelInfo> inspected = engine_.models()->Inspect(path, type);
  if (!inspected.ok()) {
    return BadModel(inspected.status(), statement.path, type);
  }
  storage::ModelInfo info = *std::move(inspected);
  info.name = statement.name.text;
  if (options.is_given("dim")) {
    if (type != storage::ModelType::kEmbedding) {
      return query::BinderError(options.RangeOf("dim"), "dim is an option of models that embed");
    }
    const std::string& dimension = info.parameters["dimension"];
    if (dimension != std::to_string(options.GetInteger("dim"))) {
      return query::BinderError(options.RangeOf("dim"),
                                "the model has " + dimension + " dimensions, not dim = " +
                                    std::to_string(options.GetInteger("dim")));
    }
  }
  if (options.is_given("context_tokens")) {
    info.parameters["context_tokens"] = std::to_string(options.GetInteger("context_tokens"));
  }
  if (options.is_given("compute")) {
    if (type != storage::ModelType::kGenerate) {
      return query::BinderError(options.RangeOf("compute"),
                                "compute is an option of models that generate");
    }
    info.parameters["compute"] = options.GetText("compute");
    INTARSIA_RETURN_IF_ERROR(ComputeOf(info).status());
  }
  if (options.is_given("kv_gate") && type != storage::ModelType::kGenerate) {
    return query::BinderError(options.RangeOf("kv_gate"),
                              "kv_gate is an option of models that generate");
  }
  INTARSIA_ASSIGN_OR_RETURN(info.id, database.CreateModel(info));
  ResultSet result;
  const std::string setting(DefaultSettingOf(type));
  if (!database.Read().GetSetting(setting).ok()) {
    INTARSIA_RETURN_IF_ERROR(database.PutSetting(setting, info.name));
    result.notices.push_back("model " + info.name + " is now the default to " +
                             std::string(VerbOf(type)));
  }
  if (info.parameters.contains("notice")) result.notices.push_back(info.parameters["notice"]);
  if (type == storage::ModelType::kGenerate) {
    GateNewModel(info, GatePromptsOf(options.GetText("kv_gate")), context, &result);
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::DropModel& statement) {
  storage::Database& database = *engine_.database();
  query::Outcome<storage::ModelInfo> found = FindModel(statement.name);
  if (!found.ok()) {
    if (!statement.if_exists) return std::move(found).diagnostic();
    return NothingToDrop("model", statement.name);
  }
  INTARSIA_ASSIGN_OR_RETURN(const auto collections, database.Read().ListCollections());
  for (const storage::CollectionInfo& collection : collections) {
    if (storage::OptionOr(collection.options, "embedding", "") == found->name) {
      return query::CatalogError(
          statement.name.range,
          "model \"" + found->name + "\" embeds collection \"" + collection.name + "\"",
          "Drop the collection first.");
    }
  }
  INTARSIA_RETURN_IF_ERROR(database.DropModel(found->id));
  engine_.models()->Forget(found->id);
  engine_.backends()->Forget(found->id);
  const std::string_view setting = DefaultSettingOf(found->type);
  const Result<std::string> name = database.Read().GetSetting(setting);
  if (name.ok() && *name == found->name) INTARSIA_RETURN_IF_ERROR(database.RemoveSetting(setting));
  return ResultSet();
}

query::Outcome<ResultSet> Session::Run(const query::ShowModels&) {
  const storage::ReadView view = engine_.database()->Read();
  INTARSIA_ASSIGN_OR_RETURN(const auto models, view.ListModels());
  ResultSet result;
  result.columns = {{"name", ValueKind::kString},     {"type", ValueKind::kString},
                    {"default", ValueKind::kBoolean}, {"architecture", ValueKind::kString},
                    {"path", ValueKind::kString},     {"parameters", ValueKind::kObject}};
  for (const storage::ModelInfo& model : models) {
    const Result<std::string> chosen = view.GetSetting(DefaultSettingOf(model.type));
    Value::Object parameters;
    for (const auto& [name, value] : model.parameters) {
      parameters.push_back({.name = name, .value = Value(value)});
    }
    result.rows.push_back({Value(model.name), Value(TypeName(model.type)),
                           Value(chosen.ok() && *chosen == model.name), Value(model.architecture),
                           Value(model.path), Value(std::move(parameters))});
  }
  const model::TransformerMemory memory = engine_.models()->GeneratorMemory();
  if (memory.packed_bytes > 0) {
    result.footer = "loaded: " + std::to_string(memory.packed_bytes >> 20) +
                    " MiB of packed weights, " + std::to_string(memory.mapped_bytes >> 20) +
                    " MiB of model files mapped";
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::SetDefaultModel& statement) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::ModelInfo info, FindModel(statement.name));
  if (info.type != StoredType(statement.type)) {
    return query::BinderError(statement.name.range, "model \"" + info.name + "\" is of type " +
                                                        std::string(TypeName(info.type)));
  }
  INTARSIA_RETURN_IF_ERROR(engine_.database()->PutSetting(DefaultSettingOf(info.type), info.name));
  return ResultSet();
}

query::Outcome<ResultSet> Session::Run(const query::CreateCollection& statement) {
  storage::Database& database = *engine_.database();
  if (database.Read().FindCollection(statement.name.text).ok()) {
    if (!statement.if_not_exists) {
      return query::CatalogError(statement.name.range,
                                 "collection \"" + statement.name.text + "\" exists already",
                                 "Use CREATE COLLECTION IF NOT EXISTS, or DROP COLLECTION first.");
    }
    ResultSet result;
    result.notices.push_back("collection " + statement.name.text +
                             " exists already, nothing changed");
    return result;
  }
  INTARSIA_ASSIGN_OR_FAIL(const auto columns, query::BindColumns(statement.columns));
  INTARSIA_ASSIGN_OR_FAIL(
      const query::BoundOptions options,
      query::BindOptions(query::OptionTable::kCreateCollection, statement.options));
  storage::CollectionInfo info;
  info.name = statement.name.text;
  for (const query::ColumnSpec& spec : columns) {
    storage::Column& column = info.columns.emplace_back();
    column.name = spec.name;
    SetColumnType(spec.type, &column, &info);
  }
  std::string embedding;
  if (options.is_given("embedding")) {
    embedding = options.GetText("embedding");
  } else if (const auto chosen = database.Read().GetSetting(kDefaultEmbedding); chosen.ok()) {
    embedding = *chosen;
  } else {
    return query::CatalogError(statement.name.range,
                               "a collection needs an embedding model, and there is no default",
                               "Register one: CREATE MODEL e TYPE EMBEDDING FROM 'folder'.");
  }
  INTARSIA_ASSIGN_OR_FAIL(const storage::ModelInfo model,
                          FindModel({.text = embedding, .range = options.RangeOf("embedding")}));
  if (model.type != storage::ModelType::kEmbedding) {
    return query::BinderError(options.RangeOf("embedding"),
                              "model \"" + model.name + "\" is not an embedding model");
  }
  info.options["embedding"] = model.name;
  info.options["embedding_digest"] = model.weights_digest.ToHex();
  info.options["chunker"] = options.GetText("chunker");
  const int64_t chunk_tokens = options.is_given("chunk_tokens") ? options.GetInteger("chunk_tokens")
                                                                : DefaultChunkTokens(model);
  info.options["chunk_tokens"] = std::to_string(chunk_tokens);
  info.options["overlap"] = std::to_string(options.GetInteger("overlap"));
  info.options["min_tokens"] =
      std::to_string(std::min(options.GetInteger("min_tokens"), chunk_tokens));
  info.options["kv_cache"] = options.GetText("kv_cache");
  info.options["text_index"] = options.GetText("text_index");
  info.options["language"] = options.GetText("language");
  info.options["kv_dtype"] = options.GetText("kv_dtype");
  info.options["kv_ttl"] = std::to_string(options.GetInteger("kv_ttl"));
  if (options.GetInteger("overlap") > chunk_tokens / 2) {
    return query::BinderError(options.RangeOf("overlap"),
                              "overlap may be at most half of chunk_tokens, which is " +
                                  std::to_string(chunk_tokens) + ", not " +
                                  std::to_string(options.GetInteger("overlap")));
  }
  if (const Status valid = query::ValidateChunkerOptions(ChunkerOf(info)); !valid.ok()) {
    return query::BinderError(statement.name.range, std::string(valid.message()));
  }
  INTARSIA_ASSIGN_OR_RETURN(info.id, database.CreateCollection(info));
  database.kv()->SetTtl(info.id, KvTtlOf(info));
  return ResultSet();
}

query::Outcome<ResultSet> Session::Run(const query::AlterCollection& statement) {
  INTARSIA_ASSIGN_OR_FAIL(storage::CollectionInfo info, FindCollection(statement.name));
  // An option that only CREATE COLLECTION takes is told from one that there is not.
  for (const query::Option& option : statement.options) {
    if (query::FindOption(query::OptionTable::kAlterCollection, option.name).ok()) continue;
    if (!query::FindOption(query::OptionTable::kCreateCollection, option.name).ok()) break;
    return query::BinderError(
        option.name.range, "option \"" + option.name.text + "\" is fixed when a collection is made",
        "Make another collection with it and load the documents there.");
  }
  INTARSIA_ASSIGN_OR_FAIL(
      const query::BoundOptions options,
      query::BindOptions(query::OptionTable::kAlterCollection, statement.options));
  info.options["kv_ttl"] = std::to_string(options.GetInteger("kv_ttl"));
  storage::Database& database = *engine_.database();
  INTARSIA_RETURN_IF_ERROR(database.UpdateCollection(info));
  database.kv()->SetTtl(info.id, KvTtlOf(info));
  return ResultSet();
}

query::Outcome<ResultSet> Session::Run(const query::DropCollection& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kDelete, statement.options));
  query::Outcome<storage::CollectionInfo> found = FindCollection(statement.name);
  if (!found.ok()) {
    if (!statement.if_exists) return std::move(found).diagnostic();
    return NothingToDrop("collection", statement.name);
  }
  ResultSet result;
  if (options.GetBoolean("secure")) {
    std::vector<storage::DocumentId> documents;
    const auto visit = [&documents](const storage::Document& document) {
      documents.push_back(document.id);
      return Status::Ok();
    };
    INTARSIA_RETURN_IF_ERROR(engine_.database()->Read().ForEachDocument(found->id, visit));
    INTARSIA_ASSIGN_OR_FAIL(result, Erase(documents, context));
  }
  INTARSIA_RETURN_IF_ERROR(engine_.database()->DropCollection(found->id));
  engine_.retriever()->Forget(found->id);
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::ShowCollections&) {
  const storage::ReadView view = engine_.database()->Read();
  INTARSIA_ASSIGN_OR_RETURN(const auto collections, view.ListCollections());
  ResultSet result;
  result.columns = {{"name", ValueKind::kString},        {"documents", ValueKind::kInteger},
                    {"chunks", ValueKind::kInteger},     {"text_bytes", ValueKind::kInteger},
                    {"embedding", ValueKind::kString},   {"kv_cache", ValueKind::kString},
                    {"kv_entries", ValueKind::kInteger}, {"kv_bytes", ValueKind::kInteger}};
  for (const storage::CollectionInfo& collection : collections) {
    INTARSIA_ASSIGN_OR_RETURN(const auto stats, view.GetStats(collection.id));
    INTARSIA_ASSIGN_OR_RETURN(const auto usage,
                              engine_.database()->kv()->UsageOfCollection(collection.id));
    result.rows.push_back({Value(collection.name), Value(stats.num_documents),
                           Value(stats.num_chunks), Value(stats.text_bytes),
                           Value(storage::OptionOr(collection.options, "embedding", "")),
                           Value(storage::OptionOr(collection.options, "kv_cache", "lazy")),
                           Value(usage.num_entries), Value(usage.num_bytes)});
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::Describe& statement) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  const query::CollectionSchema schema = SchemaOf(collection);
  ResultSet result;
  result.columns = {{"column", ValueKind::kString},
                    {"type", ValueKind::kString},
                    {"kind", ValueKind::kString},
                    {"help", ValueKind::kString}};
  for (size_t index = 0; index < schema.columns().size(); ++index) {
    const query::ColumnSpec& column = schema.columns()[index];
    const bool is_implicit = static_cast<int64_t>(index) < schema.num_implicit();
    result.rows.push_back({Value(column.name), Value(query::ColumnTypeName(column.type)),
                           Value(is_implicit ? "implicit" : "metadata"),
                           is_implicit ? Value(query::ImplicitColumns()[index].help) : Value()});
  }
  for (const auto& [name, value] : collection.options) {
    if (name.find(':') == std::string::npos) {
      result.rows.push_back({Value(name), Value(), Value("option"), Value(value)});
    }
  }
  return result;
}

}  // namespace intarsia::engine
