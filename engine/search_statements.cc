// SEARCH, and SELECT with SEARCH.
#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "engine/collection_rows.h"
#include "engine/plan_writer.h"
#include "engine/session.h"
#include "engine/text_indexer.h"
#include "query/search_clauses.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

// Characters of SNIPPET(content).
constexpr int64_t kSnippetChars = 160;
// Rows of a search.
constexpr int64_t kLimitMax = 1'000'000;

VectorScan ScanOf(const query::BoundOptions& options, const query::Settings& settings) {
  const std::string& name =
      options.is_given("scan") ? options.GetText("scan") : settings.GetText("search.scan");
  if (name == "flat") return VectorScan::kFlat;
  if (name == "graph") return VectorScan::kGraph;
  if (name == "device") return VectorScan::kDevice;
  return name == "binary" ? VectorScan::kBinary : VectorScan::kAuto;
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

// What a search took and found: the last line of its result.
std::string FooterOf(const Retrieval& found, int64_t num_rows) {
  const double search_ms =
      found.embed_ms + found.filter_ms + found.search_ms + found.text_ms + found.rerank_ms;
  const std::string how = found.mode == SearchMode::kText     ? "words"
                          : found.mode == SearchMode::kHybrid ? "words and " + found.access_path
                                                              : found.access_path;
  return std::to_string(num_rows) + " rows, " + Ms(search_ms) + " (" + how + " of " +
         std::to_string(found.num_vectors) + " chunks" +
         (found.num_reranked > 0 ? ", " + std::to_string(found.num_reranked) + " reranked" : "") +
         ")";
}

// The notices of a search, with one more if the collection is smaller than what is asked for.
std::vector<std::string> NoticesOf(const Retrieval& found, const std::optional<int64_t>& limit,
                                   const query::Predicate* where) {
  std::vector<std::string> notices = found.notices;
  if (limit.has_value() && where == nullptr && found.num_vectors > 0 &&
      found.mode != SearchMode::kText && !found.is_constrained &&
      std::ssize(found.chunks) < *limit) {
    notices.push_back("only " + std::to_string(found.chunks.size()) + " of " +
                      std::to_string(*limit) +
                      " rows, because the collection holds no more chunks");
  }
  return notices;
}

Result<std::string> TextOf(const Retrieval& found, const RetrievedChunk& hit) {
  return found.view->GetTextRange(hit.document.text_digest, hit.chunk.byte_begin,
                                  hit.chunk.byte_end);
}

// The cells of SELECT ... SEARCH.
class Projection {
 public:
  // Errors: kBinder for an unknown column.
  static query::Outcome<Projection> Bind(const query::Select& statement,
                                         const storage::CollectionInfo& collection) {
    Projection projection(collection);
    for (const query::SelectItem& item : statement.items) {
      if (item.kind == query::SelectItem::Kind::kFunction) {
        const bool is_text = item.column.text == "SNIPPET";
        projection.columns_.push_back(-1);
        projection.functions_.push_back(item.column.text);
        std::string name;
        for (const char c : item.column.text) {
          name.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
        }
        projection.header_.push_back({name, is_text ? ValueKind::kString : ValueKind::kDouble});
        continue;
      }
      std::vector<int64_t> columns;
      if (item.kind == query::SelectItem::Kind::kStar) {
        for (int64_t i = 0; i < std::ssize(projection.schema_.columns()); ++i) columns.push_back(i);
      } else {
        INTARSIA_ASSIGN_OR_FAIL(const int64_t column, projection.schema_.Find(item.column));
        columns.push_back(column);
      }
      for (const int64_t column : columns) {
        const query::ColumnSpec& spec = projection.schema_.columns()[static_cast<size_t>(column)];
        projection.columns_.push_back(column);
        projection.functions_.emplace_back();
        projection.used_.push_back(column);
        projection.header_.push_back({spec.name, query::KindOf(spec.type)});
      }
    }
    return projection;
  }

  const std::vector<query::ResultColumn>& header() const { return header_; }

  Result<query::Row> RowOf(const Retrieval& found, const RetrievedChunk& hit) const {
    INTARSIA_ASSIGN_OR_RETURN(
        DocumentRows rows,
        DocumentRows::Open(*found.view, schema_, hit.document, NeedsOf(schema_, used_)));
    INTARSIA_ASSIGN_OR_RETURN(const query::Row cells, rows.RowOf(hit.chunk));
    query::Row row;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i] >= 0) {
        row.push_back(cells[static_cast<size_t>(columns_[i])]);
      } else if (functions_[i] == "SNIPPET") {
        INTARSIA_ASSIGN_OR_RETURN(const std::string text, TextOf(found, hit));
        row.emplace_back(Snippet(text, kSnippetChars));
      } else {
        row.push_back(functions_[i] == "SCORE"          ? Value(hit.score)
                      : functions_[i] == "TEXT_SCORE"   ? ScoreValue(hit.text_score)
                      : functions_[i] == "VECTOR_SCORE" ? ScoreValue(hit.vector_score)
                                                        : ScoreValue(hit.rerank_score));
      }
    }
    return row;
  }

 private:
  explicit Projection(const storage::CollectionInfo& collection)
      : collection_(collection), schema_(SchemaOf(collection)) {}

  const storage::CollectionInfo& collection_;
  query::CollectionSchema schema_;
  std::vector<int64_t> columns_;        // of the schema; -1 for a function
  std::vector<std::string> functions_;  // by item; empty for a column
  std::vector<int64_t> used_;
  std::vector<query::ResultColumn> header_;
};

}  // namespace

// Errors: kBinder if the collection lacks what the statement asks for.
query::Failure Session::BindRetrieval(const query::BoundOptions& options, RetrieveParams* params) {
  const bool is_given = options.is_given("mode");
  const std::string& mode = is_given ? options.GetText("mode") : settings_.GetText("search.mode");
  params->mode = mode == "text"     ? SearchMode::kText
                 : mode == "hybrid" ? SearchMode::kHybrid
                                    : SearchMode::kVector;
  if (params->mode != SearchMode::kVector && !HasTextIndex(params->collection)) {
    if (is_given) {
      return query::BinderError(
          options.RangeOf("mode"),
          "collection \"" + params->collection.name + "\" has no text index",
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
  if (params->mode == SearchMode::kHybrid && params->text_weight == 0 &&
      params->vector_weight == 0) {
    return query::BinderError(options.RangeOf("text_weight"),
                              "text_weight and vector_weight may not both be 0");
  }
  params->text_top = options.GetInteger("text_top");
  params->vector_top = options.GetInteger("vector_top");
  INTARSIA_ASSIGN_OR_FAIL(params->reranker, RerankerOf(options));
  params->rerank_top = options.GetInteger("rerank_top");
  params->scan = ScanOf(options, settings_);
  const Result<DeviceChoice> device = ParseDeviceChoice(settings_.GetText(kDeviceSetting));
  if (!device.ok()) return query::FromStatus(device.status());
  if (device->kind != DeviceChoice::Kind::kCpu) {
    params->find_device = [backends = engine_.backends(), choice = *device] {
      return backends->DeviceFor(choice);
    };
  }
  return {};
}

query::Outcome<RetrieveParams> Session::BindSearch(
    const query::Search& statement, const storage::CollectionInfo& collection,
    const query::BoundOptions& options, std::shared_ptr<const EmbeddingModel>* embedder) {
  RetrieveParams params;
  params.collection = collection;
  params.text = statement.text.text;
  params.where = statement.where.has_value() ? &*statement.where : nullptr;
  params.limit = statement.limit.value_or(settings_.GetInteger("search.limit"));
  if (params.limit < 1 || params.limit > kLimitMax) {
    return query::BinderError({}, "a search finds from 1 to " + std::to_string(kLimitMax) +
                                      " rows, OFFSET included, not " +
                                      std::to_string(params.limit));
  }
  params.syntax = index::TextSyntax::kOperators;
  INTARSIA_FAIL_IF(BindRetrieval(options, &params));
  // Words are found without a model.
  if (params.mode != SearchMode::kText) {
    INTARSIA_ASSIGN_OR_FAIL(*embedder, EmbedderOf(collection));
    params.embedder = embedder->get();
  }
  return params;
}

query::Outcome<SearchRun> Session::RunRetrieval(const query::Search& statement,
                                                const SearchTexts& texts,
                                                const StatementContext& context) {
  SearchRun run;
  INTARSIA_FAIL_IF(query::RefuseEmptySearch(statement.text));
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(run.options,
                          query::BindOptions(query::OptionTable::kSearch, statement.options));
  INTARSIA_ASSIGN_OR_FAIL(run.params,
                          BindSearch(statement, collection, run.options, &run.embedder));
  run.params.vector_text = texts.vector;
  run.params.rerank_text = texts.rerank;
  INTARSIA_ASSIGN_OR_FAIL(run.found, engine_.retriever()->Retrieve(run.params, context.cancel));
  // Texts and conditions are those of the statement, which may be gone before the run.
  run.params.text = run.params.vector_text = run.params.rerank_text = {};
  run.params.where = nullptr;
  return run;
}

query::Outcome<SearchRun> Session::RunRetrieval(const query::Select& statement,
                                                const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundSearchClauses bound,
                          query::BindSearchClauses(statement));
  query::Search search = bound.search;
  if (!search.limit.has_value() && statement.offset.has_value()) {
    search.limit = settings_.GetInteger("search.limit") + *statement.offset;
  }
  return RunRetrieval(
      search, {.vector = bound.vector_text.value_or(""), .rerank = bound.rerank_text.value_or("")},
      context);
}

query::Outcome<ResultSet> Session::RunSearch(const query::Select& statement,
                                             const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  if (auto bound = query::BindSearchClauses(statement); !bound.ok()) {
    return std::move(bound).diagnostic();
  }
  INTARSIA_ASSIGN_OR_FAIL(const Projection projection, Projection::Bind(statement, collection));
  INTARSIA_ASSIGN_OR_FAIL(const SearchRun run, RunRetrieval(statement, context));
  ResultSet result;
  result.columns = projection.header();
  const int64_t begin =
      std::min<int64_t>(statement.offset.value_or(0), std::ssize(run.found.chunks));
  for (int64_t i = begin; i < std::ssize(run.found.chunks); ++i) {
    INTARSIA_ASSIGN_OR_RETURN(
        query::Row row, projection.RowOf(run.found, run.found.chunks[static_cast<size_t>(i)]));
    result.rows.push_back(std::move(row));
  }
  std::optional<int64_t> limit = statement.limit;
  if (limit.has_value()) *limit = run.params.limit;
  result.notices =
      NoticesOf(run.found, limit, statement.where.has_value() ? &*statement.where : nullptr);
  result.footer = FooterOf(run.found, std::ssize(result.rows));
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::Search& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const SearchRun run, RunRetrieval(statement, {}, context));
  const Retrieval& found = run.found;
  const bool is_reranked = run.params.reranker != nullptr;
  ResultSet result;
  result.columns = {{"score", ValueKind::kDouble},        {"source", ValueKind::kString},
                    {"heading", ValueKind::kString},      {"byte_start", ValueKind::kInteger},
                    {"byte_end", ValueKind::kInteger},    {"doc_id", ValueKind::kString},
                    {"chunk_id", ValueKind::kString},     {"text_score", ValueKind::kDouble},
                    {"vector_score", ValueKind::kDouble}, {"snippet", ValueKind::kString}};
  if (is_reranked) {
    result.columns.insert(result.columns.begin(), {"rerank_score", ValueKind::kDouble});
  }
  for (const RetrievedChunk& hit : found.chunks) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string text, TextOf(found, hit));
    std::string heading;
    for (const std::string& part : hit.chunk.heading_path) {
      heading += (heading.empty() ? "" : " > ") + part;
    }
    query::Row& row = result.rows.emplace_back();
    if (is_reranked) row.push_back(ScoreValue(hit.rerank_score));
    for (Value& cell : std::vector<Value>{
             Value(hit.score), Value(hit.document.source), Value(heading),
             Value(hit.chunk.byte_begin), Value(hit.chunk.byte_end),
             Value(std::to_string(hit.document.id)), Value(std::to_string(hit.chunk.id)),
             ScoreValue(hit.text_score), ScoreValue(hit.vector_score),
             Value(Snippet(text, run.options.GetInteger("snippet_chars")))}) {
      row.push_back(std::move(cell));
    }
  }
  result.notices =
      NoticesOf(found, statement.limit, statement.where.has_value() ? &*statement.where : nullptr);
  result.footer = FooterOf(found, std::ssize(found.chunks));
  return result;
}

}  // namespace intarsia::engine
