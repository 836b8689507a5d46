#include "engine/vector_profile.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace intarsia::engine {
namespace {

using Json = nlohmann::json;

std::string KeyPrefix(storage::CollectionId collection) {
  return "vector_profile:" + std::to_string(collection) + ":";
}
std::string KeyOf(storage::CollectionId collection, storage::ModelId model) {
  return KeyPrefix(collection) + std::to_string(model);
}

// The number `name` of `json` if it is one in [min, max].
std::optional<double> NumberOf(const Json& json, const char* name, double min, double max) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number()) return std::nullopt;
  const auto value = found->get<double>();
  if (!(value >= min && value <= max)) return std::nullopt;
  return value;
}

Json ToJson(const VectorProfile& profile) {
  return {{"bits", profile.bits},
          {"query_bits", profile.query_bits},
          {"error_bound", profile.error_bound},
          {"expected_recall", profile.expected_recall},
          {"num_sampled", profile.num_sampled},
          {"num_queries", profile.num_queries},
          {"bit_entropy_mean", profile.bit_entropy_mean},
          {"bit_entropy_min", profile.bit_entropy_min},
          {"neighbour_information", profile.neighbour_information},
          {"num_rows", profile.num_rows},
          {"flat_ns_per_row", profile.rates.flat_ns_per_row},
          {"scan_ns_per_row", profile.rates.scan_ns_per_row},
          {"rescore_us", profile.rates.rescore_us},
          {"graph_us", profile.rates.graph_us}};
}

std::optional<VectorProfile> FromJson(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  constexpr double kMost = 1e15;
  VectorProfile profile;
  bool is_whole = true;
  const auto read = [&](const char* name, double min, double max, auto* target) {
    const std::optional<double> value = NumberOf(json, name, min, max);
    is_whole = is_whole && value.has_value();
    *target = static_cast<std::remove_pointer_t<decltype(target)>>(value.value_or(0.0));
  };
  read("bits", 1, 2, &profile.bits);
  read("query_bits", 1, 4, &profile.query_bits);
  read("error_bound", 0, 100, &profile.error_bound);
  read("expected_recall", 0, 1, &profile.expected_recall);
  read("num_sampled", 0, kMost, &profile.num_sampled);
  read("num_queries", 0, kMost, &profile.num_queries);
  read("bit_entropy_mean", 0, 1, &profile.bit_entropy_mean);
  read("bit_entropy_min", 0, 1, &profile.bit_entropy_min);
  read("neighbour_information", 0, 1, &profile.neighbour_information);
  read("num_rows", 0, kMost, &profile.num_rows);
  read("flat_ns_per_row", 0, kMost, &profile.rates.flat_ns_per_row);
  read("scan_ns_per_row", 0, kMost, &profile.rates.scan_ns_per_row);
  read("rescore_us", 0, kMost, &profile.rates.rescore_us);
  read("graph_us", 0, kMost, &profile.rates.graph_us);
  if (!is_whole || (profile.query_bits != 1 && profile.query_bits != 4)) return std::nullopt;
  return profile;
}

}  // namespace

Result<VectorProfile> MeasureProfile(const index::FlatIndex& flat, const index::RowSet& rows,
                                     int64_t num_sampled_max, ThreadPool* pool) {
  const std::vector<uint32_t> all = rows.ToRows();
  INTARSIA_ASSIGN_OR_RETURN(const auto sample,
                            index::FlatIndex::Create({.dim = flat.dim(), .metric = flat.metric()}));
  std::vector<uint64_t> ids;
  std::vector<float> values;
  for (const int64_t at : index::SampleRows(std::ssize(all), num_sampled_max, /*seed=*/1)) {
    const uint32_t row = all[static_cast<size_t>(at)];
    ids.push_back(row);
    const std::span<const float> vector = flat.row(row);
    values.insert(values.end(), vector.begin(), vector.end());
  }
  INTARSIA_RETURN_IF_ERROR(sample->Add(ids, values));
  INTARSIA_ASSIGN_OR_RETURN(const index::Calibration measured,
                            index::Calibrate(*sample, {.num_rows = std::ssize(all)}, pool));
  VectorProfile profile;
  profile.bits = measured.chosen.bits;
  profile.query_bits = measured.chosen.query_bits;
  profile.error_bound = measured.chosen.error_bound;
  profile.expected_recall = measured.chosen.recall;
  profile.num_sampled = measured.num_sampled;
  profile.num_queries = measured.num_queries;
  profile.bit_entropy_mean = measured.bit_entropy_mean;
  profile.bit_entropy_min = measured.bit_entropy_min;
  profile.neighbour_information = measured.neighbour_information;
  profile.num_rows = std::ssize(all);
  // Calibration runs on one thread, searches on all.
  const double threads = pool == nullptr ? 1.0 : pool->num_threads();
  SearchCosts estimates;
  estimates.Reset(flat.dim(), profile.bits);
  profile.rates = estimates.rates();
  profile.rates.flat_ns_per_row = measured.flat_ns_per_row / threads;
  profile.rates.scan_ns_per_row = measured.chosen.scan_ns_per_row / threads;
  profile.rates.rescore_us = measured.chosen.rescore_us;
  return profile;
}

std::optional<VectorProfile> LoadProfile(const storage::ReadView& view,
                                         storage::CollectionId collection, storage::ModelId model) {
  const Result<std::string> text = view.GetSetting(KeyOf(collection, model));
  if (!text.ok()) return std::nullopt;
  return FromJson(Json::parse(*text, nullptr, /*allow_exceptions=*/false));
}

Status SaveProfile(storage::Database* database, storage::CollectionId collection,
                   storage::ModelId model, const VectorProfile& profile) {
  return database->PutSetting(KeyOf(collection, model), ToJson(profile).dump());
}

Status RemoveProfiles(storage::Database* database, storage::CollectionId collection) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::Options settings, database->Read().ListSettings());
  const std::string prefix = KeyPrefix(collection);
  for (const auto& [name, value] : settings) {
    if (name.starts_with(prefix)) INTARSIA_RETURN_IF_ERROR(database->RemoveSetting(name));
  }
  return Status::Ok();
}

}  // namespace intarsia::engine
