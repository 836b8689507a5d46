#include "engine/plan_writer.h"

#include <cmath>
#include <cstdio>
#include <utility>

namespace intarsia::engine {
namespace {

// The leg that compares vectors.
void DescribeVectors(const Retrieval& retrieval, int depth, PlanTimes times, PlanWriter* plan) {
  const bool is_alone = retrieval.mode == SearchMode::kVector;
  plan->Add(depth, (is_alone ? "RETRIEVE by " : "MATCH VECTOR by ") + retrieval.access_path + ": " +
                       std::to_string(retrieval.num_vectors) + " vectors, " +
                       std::to_string(retrieval.num_filtered) + " pass the filter, " +
                       std::to_string(retrieval.num_rescored) + " compared exactly, " +
                       std::to_string(retrieval.num_vector_hits) + (is_alone ? " kept" : " found"));
  if (retrieval.graph_measure.has_value()) {
    plan->Add(depth + 1, "GRAPH: recall@10 " + Format("%.4f", retrieval.graph_measure->recall) +
                             " of the scan, measured on " +
                             std::to_string(retrieval.graph_measure->num_queries) +
                             " of its vectors");
  } else if (retrieval.profile.has_value()) {
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
  if (times == PlanTimes::kOmit) return;
  plan->Add(depth + 1, "embed " + Ms(retrieval.embed_ms) + ", search " + Ms(retrieval.search_ms));
}

// The leg that looks for words.
void DescribeWords(const Retrieval& retrieval, int depth, PlanTimes times, PlanWriter* plan) {
  const index::TextSearchResult& text = retrieval.text;
  const bool is_alone = retrieval.mode == SearchMode::kText;
  plan->Add(depth, (is_alone ? "RETRIEVE by words: " : "MATCH TEXT: ") +
                       std::to_string(text.num_clauses) + " words or phrases with " +
                       std::to_string(text.num_postings) + " postings in " +
                       std::to_string(text.num_chunks) + " chunks, " +
                       std::to_string(text.num_scored) + " chunks scored, " +
                       std::to_string(retrieval.num_text_hits) + (is_alone ? " kept" : " found"));
  if (times == PlanTimes::kOmit) return;
  plan->Add(depth + 1, std::to_string(text.num_blocks_decoded) + " blocks decoded, search " +
                           Ms(retrieval.text_ms));
}

}  // namespace

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string Ms(double milliseconds) { return Format("%.1f ms", milliseconds); }

void PlanWriter::Add(int depth, const std::string& text) {
  result_.rows.push_back({query::Value(std::string(static_cast<size_t>(2 * depth), ' ') +
                                       (depth > 0 ? "-> " : "") + text)});
}

query::ResultSet PlanWriter::Take() {
  result_.columns = {{"plan", query::ValueKind::kString}};
  return std::move(result_);
}

void DescribeRetrieval(const RetrieveParams& params, const Retrieval& retrieval, int depth,
                       PlanTimes times, PlanWriter* plan) {
  switch (retrieval.mode) {
    case SearchMode::kVector:
      DescribeVectors(retrieval, depth, times, plan);
      break;
    case SearchMode::kText:
      DescribeWords(retrieval, depth, times, plan);
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
      DescribeWords(retrieval, depth + 1, times, plan);
      DescribeVectors(retrieval, depth + 1, times, plan);
      break;
    }
  }
  if (params.reranker != nullptr) {
    plan->Add(depth + 1, "RERANK by " + params.reranker->Describe() + ": " +
                             std::to_string(retrieval.num_reranked) + " chunks ranked again, " +
                             std::to_string(retrieval.chunks.size()) + " kept" +
                             (times == PlanTimes::kShow ? ", " + Ms(retrieval.rerank_ms) : ""));
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
  if (times == PlanTimes::kOmit) return;
  plan->Add(depth + 1, "index " + Ms(retrieval.build_ms) + ", filter " + Ms(retrieval.filter_ms));
}

}  // namespace intarsia::engine
