// SHOW INDEXES.
#include <cmath>
#include <utility>

#include "engine/session.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

// One row of the result.
struct IndexRow {
  std::string kind;
  std::string state;
  int64_t num_rows = 0;
  int64_t num_bytes = 0;
  Value::Object settings;
};

IndexRow FilterRow(const IndexReport& report) {
  return {.kind = "filter",
          .state = report.num_chunks > 0 && report.num_columns > 0 ? "ready" : "not loaded",
          .num_rows = report.num_chunks,
          .num_bytes = report.row_bytes,
          .settings = {}};
}

double Rounded(double value) { return std::round(value * 1e4) / 1e4; }

IndexRow VectorRow(const IndexReport& report) {
  IndexRow row = {.kind = "vector",
                  .state = report.is_loaded ? "ready" : "not loaded",
                  .num_rows = report.num_vectors,
                  .num_bytes = report.vector_bytes,
                  .settings = {}};
  const auto add = [&row](const char* name, Value value) {
    row.settings.push_back({.name = name, .value = std::move(value)});
  };
  const bool is_binary = report.is_loaded ? report.has_codes : report.profile.has_value();
  add("scan", Value(is_binary ? "binary" : "flat"));
  if (report.profile.has_value()) {
    const VectorProfile& profile = *report.profile;
    add("bits", Value(profile.bits));
    add("query_bits", Value(profile.query_bits));
    add("error_bound", Value(Rounded(profile.error_bound)));
    add("expected_recall", Value(Rounded(profile.expected_recall)));
    add("sampled", Value(profile.num_sampled));
    add("queries", Value(profile.num_queries));
    add("bit_entropy_mean", Value(Rounded(profile.bit_entropy_mean)));
    add("bit_entropy_min", Value(Rounded(profile.bit_entropy_min)));
    add("neighbour_information", Value(Rounded(profile.neighbour_information)));
  }
  if (report.num_in_files > 0) {
    add("rows_in_files", Value(report.num_in_files));
    add("file_bytes", Value(report.file_bytes));
  }
  if (report.rates == SearchRates{}) return row;
  add("flat_ns_per_row", Value(Rounded(report.rates.flat_ns_per_row)));
  if (!is_binary) return row;
  add("scan_ns_per_row", Value(Rounded(report.rates.scan_ns_per_row)));
  add("rescore_us", Value(Rounded(report.rates.rescore_us)));
  return row;
}

IndexRow GraphRow(const IndexReport& report) {
  IndexRow row = {.kind = "graph",
                  .state = "none",
                  .num_rows = report.num_in_graph,
                  .num_bytes = report.graph_bytes,
                  .settings = {}};
  if (report.num_in_graph > 0) {
    row.state = "ready";
    row.settings.push_back({.name = "graph_us", .value = Value(Rounded(report.rates.graph_us))});
    if (report.graph_measure.has_value()) {
      const index::GraphMeasure& measure = *report.graph_measure;
      row.settings.push_back({.name = "measured_recall", .value = Value(Rounded(measure.recall))});
      row.settings.push_back({.name = "queries", .value = Value(measure.num_queries)});
    }
  } else if (report.wants_graph) {
    row.state = "building";
  }
  return row;
}

}  // namespace

query::Outcome<ResultSet> Session::Run(const query::ShowIndexes& statement) {
  std::vector<storage::CollectionInfo> collections;
  if (statement.collection.has_value()) {
    INTARSIA_ASSIGN_OR_FAIL(storage::CollectionInfo info, FindCollection(*statement.collection));
    collections.push_back(std::move(info));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(collections, engine_.database()->Read().ListCollections());
  }
  ResultSet result;
  result.columns = {{"collection", ValueKind::kString}, {"kind", ValueKind::kString},
                    {"state", ValueKind::kString},      {"rows", ValueKind::kInteger},
                    {"bytes", ValueKind::kInteger},     {"settings", ValueKind::kObject}};
  for (const storage::CollectionInfo& collection : collections) {
    const auto model = engine_.database()->Read().FindModel(
        storage::OptionOr(collection.options, "embedding", ""));
    INTARSIA_ASSIGN_OR_RETURN(
        const IndexReport report,
        engine_.retriever()->Describe(collection, model.ok() ? model->id : 0));
    IndexRow rows[] = {FilterRow(report), VectorRow(report), GraphRow(report)};
    for (IndexRow& row : rows) {
      result.rows.push_back({Value(collection.name), Value(row.kind), Value(row.state),
                             Value(row.num_rows), Value(row.num_bytes),
                             Value(std::move(row.settings))});
    }
  }
  return result;
}

}  // namespace intarsia::engine
