// Statements that load, read and delete documents.
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "engine/collection_rows.h"
#include "engine/ingester.h"
#include "engine/notices.h"
#include "engine/path_pattern.h"
#include "engine/session.h"
#include "query/filter.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Row;
using query::Value;
using query::ValueKind;

storage::Attributes ToAttributes(const storage::CollectionInfo& collection, const Row& cells) {
  storage::Attributes attributes;
  for (size_t index = 0; index < cells.size(); ++index) {
    if (!cells[index].is_null()) {
      attributes[collection.columns[index].name] = ToStored(cells[index]);
    }
  }
  return attributes;
}

ResultSet ReportRows(const IngestReport& report) {
  ResultSet result;
  result.columns = {{"added", ValueKind::kInteger},     {"updated", ValueKind::kInteger},
                    {"unchanged", ValueKind::kInteger}, {"skipped", ValueKind::kInteger},
                    {"chunks", ValueKind::kInteger},    {"bytes", ValueKind::kInteger},
                    {"errors", ValueKind::kList}};
  Value::List errors;
  for (const IngestError& error : report.errors) {
    errors.push_back(Value(Value::Object{{"source", Value(error.source)},
                                         {"stage", Value(error.stage)},
                                         {"reason", Value(error.reason)}}));
  }
  result.rows.push_back({Value(report.num_added), Value(report.num_updated),
                         Value(report.num_unchanged), Value(report.num_skipped),
                         Value(report.num_chunks), Value(report.num_bytes),
                         Value(std::move(errors))});
  result.notices = report.notices;
  constexpr size_t kErrorsShown = 5;
  for (size_t i = 0; i < std::min(kErrorsShown, report.errors.size()); ++i) {
    result.notices.push_back("skipped " + report.errors[i].source + ": " + report.errors[i].reason);
  }
  if (report.errors.size() > kErrorsShown) {
    result.notices.push_back("and " + std::to_string(report.errors.size() - kErrorsShown) +
                             " more; the column errors has them all");
  }
  return result;
}

}  // namespace

query::Outcome<ResultSet> Session::Run(const query::Copy& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kCopy, statement.options));
  INTARSIA_ASSIGN_OR_FAIL(const Row metadata,
                          query::BindMetadata(statement.metadata, SchemaOf(collection)));
  IngestOptions ingest;
  ingest.format = options.GetText("format");
  ingest.file_bytes_max = options.GetInteger("file_bytes_max");
  ingest.on_error = options.GetText("on_error") == "fail" ? OnError::kFail : OnError::kSkip;
  const std::string& on_conflict = options.GetText("on_conflict");
  ingest.on_conflict = on_conflict == "fail"   ? OnConflict::kFail
                       : on_conflict == "skip" ? OnConflict::kSkip
                                               : OnConflict::kOverwrite;
  ingest.metadata = ToAttributes(collection, metadata);
  ingest.chunker = ChunkerOf(collection);
  std::vector<std::string> paths;
  for (const query::Text& source : statement.sources) {
    const auto expanded = ExpandPaths({source.text}, engine_.file_system());
    if (!expanded.ok()) {
      return query::InputError(source.range, std::string(expanded.status().message()));
    }
    paths.insert(paths.end(), expanded->begin(), expanded->end());
  }
  std::ranges::sort(paths);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  const auto tokenizer = DefaultTokenizer();
  Ingester ingester(engine_.database(), collection, embedder.get(), tokenizer.get(),
                    engine_.file_system());
  IngestReport report;
  const Status status = ingester.AddFiles(paths, ingest, context.progress, context.cancel, &report);
  if (!status.ok()) {
    return WithReport(
        status,
        {.count = report.num_added + report.num_updated, .noun = "document", .verb = "committed"});
  }
  ResultSet result = ReportRows(report);
  if (const Status prepared = engine_.retriever()->Prepare(collection, embedder->info.id);
      !prepared.ok()) {
    result.notices.push_back("the documents are in, but not ready to be searched: " +
                             std::string(prepared.message()));
  }
  INTARSIA_FAIL_IF(BuildEagerCaches(collection, context, &result));
  return result;
}

query::Failure Session::BuildEagerCaches(const storage::CollectionInfo& collection,
                                         const StatementContext& context, ResultSet* result) {
  if (storage::OptionOr(collection.options, "kv_cache", "lazy") != "eager") return {};
  auto generator = GetGenerator(std::nullopt);
  if (!generator.ok()) {
    // The documents are in, and caches can be written at any time.
    result->notices.push_back("no KV caches were written: " + generator.diagnostic().message +
                              "; CACHE COLLECTION writes them later");
    return {};
  }
  query::Outcome<ResultSet> built =
      BuildCaches(collection, nullptr, *std::move(generator), context);
  if (!built.ok()) {
    built.diagnostic().hint = "The documents are in; CACHE COLLECTION writes what is missing.";
    return std::move(built).diagnostic();
  }
  result->notices.insert(result->notices.end(), built->notices.begin(), built->notices.end());
  return {};
}

query::Outcome<ResultSet> Session::Run(const query::Insert& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(std::vector<query::InsertDocument> bound,
                          query::BindInsert(statement, SchemaOf(collection)));
  std::vector<InlineDocument> documents;
  for (query::InsertDocument& document : bound) {
    documents.push_back({.source = std::move(document.source),
                         .title = std::move(document.title),
                         .text = std::move(document.content),
                         .metadata = ToAttributes(collection, document.metadata)});
  }
  INTARSIA_ASSIGN_OR_FAIL(const auto embedder, EmbedderOf(collection));
  const auto tokenizer = DefaultTokenizer();
  Ingester ingester(engine_.database(), collection, embedder.get(), tokenizer.get(),
                    engine_.file_system());
  IngestReport report;
  IngestOptions ingest;
  ingest.chunker = ChunkerOf(collection);
  INTARSIA_RETURN_IF_ERROR(ingester.AddDocuments(std::move(documents), ingest, context.progress,
                                                 context.cancel, &report));
  ResultSet result = ReportRows(report);
  INTARSIA_FAIL_IF(BuildEagerCaches(collection, context, &result));
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::Delete& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions options,
                          query::BindOptions(query::OptionTable::kDelete, statement.options));
  std::vector<storage::DocumentId> documents;
  {
    // The view in it ends here: as long as one lives, old rows stay in the files.
    INTARSIA_ASSIGN_OR_FAIL(ChunkMatches matches, engine_.retriever()->Match(
                                                      collection, statement.where, context.cancel));
    documents = std::move(matches.documents);
  }
  if (options.GetBoolean("secure")) return Erase(documents, context);
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_deleted,
                            engine_.database()->DeleteDocuments(documents));
  ResultSet result;
  result.columns = {{"deleted", ValueKind::kInteger}};
  result.rows.push_back({Value(num_deleted)});
  return result;
}

namespace {

// Where SELECT's rows come from and how they are ordered and cut.
class Selection {
 public:
  Selection(const query::Select& statement, const storage::CollectionInfo& collection)
      : statement_(statement), collection_(collection), schema_(SchemaOf(collection)) {}

  query::Failure Bind() {
    for (const query::SelectItem& item : statement_.items) {
      if (item.kind == query::SelectItem::Kind::kCount) is_count_ = true;
      if (item.kind == query::SelectItem::Kind::kFunction) {
        return query::BinderError(
            item.column.range, item.column.text + "() needs a search to be about",
            "SELECT ... FROM collection SEARCH MATCH TEXT (content, 'text').");
      }
      if (item.kind == query::SelectItem::Kind::kStar) {
        for (int64_t i = 0; i < std::ssize(schema_.columns()); ++i) columns_.push_back(i);
      }
      if (item.kind != query::SelectItem::Kind::kColumn) continue;
      INTARSIA_ASSIGN_OR_FAIL(const int64_t column, schema_.Find(item.column));
      columns_.push_back(column);
    }
    for (const query::SelectItem& item : statement_.items) {
      if (item.kind != query::SelectItem::Kind::kCount || statement_.items.size() == 1) continue;
      return query::BinderError(item.column.range, "COUNT(*) stands alone in a SELECT");
    }
    used_ = columns_;
    for (const query::OrderTerm& term : statement_.order_by) {
      INTARSIA_ASSIGN_OR_FAIL(const int64_t column, schema_.Find(term.column));
      order_.push_back(column);
      used_.push_back(column);
    }
    if (statement_.where.has_value()) {
      INTARSIA_ASSIGN_OR_FAIL(query::Filter filter,
                              query::Filter::Bind(*statement_.where, schema_));
      used_.insert(used_.end(), filter.columns_used().begin(), filter.columns_used().end());
      filter_.emplace(std::move(filter));
    }
    if (!is_count_ && statement_.limit.has_value()) {
      const int64_t offset = statement_.offset.value_or(0);
      if (*statement_.limit <= kRowsMax - offset) rows_wanted_ = *statement_.limit + offset;
    }
    return {};
  }

  Status Scan(const storage::ReadView& view, const CancelToken* cancel) {
    const RowNeeds needs = NeedsOf(schema_, used_);
    if (HasEnough()) return Status::Ok();
    const auto visit = [&](const storage::Document& document) -> Status {
      INTARSIA_ASSIGN_OR_RETURN(DocumentRows rows,
                                DocumentRows::Open(view, schema_, document, needs));
      return view.ForEachChunkOf(document, [&](const storage::Chunk& chunk) -> Status {
        if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
        INTARSIA_ASSIGN_OR_RETURN(Row row, rows.RowOf(chunk));
        if (filter_.has_value() && !filter_->Matches(row)) return Status::Ok();
        ++num_rows_;
        if (!is_count_) Keep(std::move(row));
        return HasEnough() ? Status(StatusCode::kCancelled, "enough rows") : Status::Ok();
      });
    };
    const Status status = view.ForEachDocument(collection_.id, visit);
    return HasEnough() ? Status::Ok() : status;
  }

  ResultSet Finish() {
    ResultSet result;
    if (is_count_) {
      result.columns = {{"count", ValueKind::kInteger}};
      result.rows.push_back({Value(num_rows_)});
      return result;
    }
    Sort();
    for (const int64_t column : columns_) {
      const query::ColumnSpec& spec = schema_.columns()[static_cast<size_t>(column)];
      result.columns.push_back({spec.name, query::KindOf(spec.type)});
    }
    const int64_t begin = std::min<int64_t>(statement_.offset.value_or(0), std::ssize(rows_));
    const int64_t limit = statement_.limit.value_or(std::ssize(rows_));
    const int64_t end = begin + std::min<int64_t>(limit, std::ssize(rows_) - begin);
    for (int64_t i = begin; i < end; ++i) {
      Row& projected = result.rows.emplace_back();
      for (const int64_t column : columns_) {
        projected.push_back(rows_[static_cast<size_t>(i)][static_cast<size_t>(column)]);
      }
    }
    return result;
  }

 private:
  static constexpr int64_t kRowsMax = std::numeric_limits<int64_t>::max();
  // Of rows that are sorted to find the first ones, fewer are not worth it.
  static constexpr int64_t kSortedMin = 1'024;

  // Whether no later row changes the result.
  bool HasEnough() const {
    return !is_count_ && order_.empty() && std::ssize(rows_) >= rows_wanted_;
  }

  // Of ordered rows, those that LIMIT leaves out are dropped now and then.
  void Keep(Row row) {
    rows_.push_back(std::move(row));
    if (std::ssize(rows_) / 2 < std::max(rows_wanted_, kSortedMin)) return;
    Sort();
    rows_.resize(static_cast<size_t>(rows_wanted_));
  }

  void Sort() {
    std::ranges::stable_sort(rows_, [this](const Row& a, const Row& b) { return IsBefore(a, b); });
  }

  // Nulls last; numbers by value, everything else as text.
  static int Compare(const Value& a, const Value& b) {
    if (a.is_null() || b.is_null()) return (a.is_null() ? 1 : 0) - (b.is_null() ? 1 : 0);
    if (a.kind() == ValueKind::kInteger && b.kind() == ValueKind::kInteger) {
      return a.AsInteger() < b.AsInteger() ? -1 : a.AsInteger() > b.AsInteger() ? 1 : 0;
    }
    if (a.kind() == ValueKind::kTimestamp && b.kind() == ValueKind::kTimestamp) {
      return a.AsTimestamp() < b.AsTimestamp() ? -1 : b.AsTimestamp() < a.AsTimestamp() ? 1 : 0;
    }
    if (a.kind() == ValueKind::kDouble && b.kind() == ValueKind::kDouble) {
      return a.AsDouble() < b.AsDouble() ? -1 : a.AsDouble() > b.AsDouble() ? 1 : 0;
    }
    return query::ToText(a, "").compare(query::ToText(b, ""));
  }

  bool IsBefore(const Row& a, const Row& b) const {
    for (size_t i = 0; i < order_.size(); ++i) {
      const auto column = static_cast<size_t>(order_[i]);
      const int order = Compare(a[column], b[column]);
      if (order != 0) return statement_.order_by[i].is_descending ? order > 0 : order < 0;
    }
    return false;
  }

  const query::Select& statement_;
  const storage::CollectionInfo& collection_;
  const query::CollectionSchema schema_;
  std::vector<int64_t> columns_;
  std::vector<int64_t> order_;
  std::vector<int64_t> used_;
  std::optional<query::Filter> filter_;
  bool is_count_ = false;
  int64_t rows_wanted_ = kRowsMax;  // of the ordered ones: LIMIT and OFFSET
  int64_t num_rows_ = 0;
  std::vector<Row> rows_;
};

}  // namespace

query::Outcome<ResultSet> Session::Run(const query::Select& statement,
                                       const StatementContext& context) {
  if (statement.search.has_value()) return RunSearch(statement, context);
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  Selection selection(statement, collection);
  INTARSIA_FAIL_IF(selection.Bind());
  INTARSIA_RETURN_IF_ERROR(selection.Scan(engine_.database()->Read(), context.cancel));
  return selection.Finish();
}

}  // namespace intarsia::engine
