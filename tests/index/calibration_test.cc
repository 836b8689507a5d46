#include "index/calibration.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/index/clustered_vectors.h"

namespace intarsia::index {
namespace {

std::unique_ptr<FlatIndex> MakeFlat(int64_t num_rows, int64_t dim) {
  const ClusteredVectors data = MakeClusteredVectors(num_rows, dim, 1, 3);
  auto flat = *FlatIndex::Create({.dim = dim});
  EXPECT_TRUE(flat->Add(data.ids, data.rows).ok());
  return flat;
}

TEST(CalibrationTest, TheChoiceReachesTheWantedRecall) {
  const auto sample = MakeFlat(3'000, 128);
  const auto calibration = Calibrate(*sample, {.num_queries = 40, .num_rows = 100'000}, nullptr);
  ASSERT_TRUE(calibration.ok()) << calibration.status();
  EXPECT_EQ(calibration->trials.size(), 16U);
  EXPECT_EQ(calibration->num_sampled, 3'000);
  EXPECT_EQ(calibration->num_queries, 40);
  EXPECT_GE(calibration->chosen.recall, 0.995);
  EXPECT_LE(calibration->chosen.recall, 1.0);
  EXPECT_GT(calibration->chosen.expected_us, 0.0);
  // A wider bound never finds less, and compares more.
  for (size_t i = 1; i < calibration->trials.size(); ++i) {
    const CalibrationTrial& narrow = calibration->trials[i - 1];
    const CalibrationTrial& wide = calibration->trials[i];
    if (wide.error_bound < narrow.error_bound) continue;
    EXPECT_GE(wide.recall, narrow.recall - 0.01);
    EXPECT_GE(wide.num_rescored, narrow.num_rescored);
  }
}

TEST(CalibrationTest, MeasuresOfTheCodesAreWithinTheirRange) {
  const auto sample = MakeFlat(2'000, 96);
  const auto calibration = Calibrate(*sample, {}, nullptr);
  ASSERT_TRUE(calibration.ok());
  // A rotation behind centring leaves bits that split the vectors nearly in halves.
  EXPECT_GT(calibration->bit_entropy_mean, 0.8);
  EXPECT_LE(calibration->bit_entropy_mean, 1.0);
  EXPECT_LE(calibration->bit_entropy_min, calibration->bit_entropy_mean);
  EXPECT_GT(calibration->neighbour_information, 0.3);
  EXPECT_LE(calibration->neighbour_information, 1.0);
}

TEST(CalibrationTest, AnUnreachableRecallGivesTheHighest) {
  const auto sample = MakeFlat(500, 64);
  const auto calibration = Calibrate(*sample, {.recall_wanted = 1.0}, nullptr);
  ASSERT_TRUE(calibration.ok());
  double best = 0.0;
  for (const CalibrationTrial& trial : calibration->trials) best = std::max(best, trial.recall);
  EXPECT_EQ(calibration->chosen.recall, best);
}

TEST(CalibrationTest, SamplesAreSeededAndInOrder) {
  const std::vector<int64_t> rows = SampleRows(1'000, 100, 5);
  EXPECT_EQ(rows.size(), 100U);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(std::set<int64_t>(rows.begin(), rows.end()).size(), 100U);
  EXPECT_EQ(rows, SampleRows(1'000, 100, 5));
  EXPECT_NE(rows, SampleRows(1'000, 100, 6));
  EXPECT_EQ(SampleRows(3, 100, 5), (std::vector<int64_t>{0, 1, 2}));
}

TEST(CalibrationTest, BadOptionsAreRefused) {
  const auto few = MakeFlat(31, 64);
  EXPECT_EQ(Calibrate(*few, {}, nullptr).status().code(), StatusCode::kInvalidArgument);
  const auto sample = MakeFlat(100, 64);
  EXPECT_EQ(Calibrate(*sample, {.recall_wanted = 1.5}, nullptr).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Calibrate(*sample, {.num_queries = 0}, nullptr).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(CalibrationTest, AGraphIsMeasuredAgainstTheScan) {
  const ClusteredVectors data = MakeClusteredVectors(3'000, 64, 1, /*seed=*/5);
  const auto flat = *FlatIndex::Create({.dim = 64});
  ASSERT_TRUE(flat->Add(data.ids, data.rows).ok());
  const auto codes = *BinaryIndex::Build(*flat, {}, nullptr);
  const auto graph = *GraphIndex::Create(flat.get(), {});
  ASSERT_TRUE(graph->Append(flat->size(), /*num_threads=*/1).ok());
  std::vector<uint64_t> filter(static_cast<size_t>((flat->size() + 63) / 64), ~uint64_t{0});
  filter[0] = 0;  // These slots are gone.
  const GraphMeasureParams params = {.rows = flat.get(),
                                     .codes = codes.get(),
                                     .graph = graph.get(),
                                     .filter = filter,
                                     .num_queries = 50};
  const auto measure = MeasureGraph(params, nullptr);
  ASSERT_TRUE(measure.ok()) << measure.status();
  EXPECT_EQ(measure->num_queries, 50);
  EXPECT_GT(measure->recall, 0.9);
  EXPECT_LE(measure->recall, 1.0);
  EXPECT_GT(measure->search_us, 0.0);
  // Without codes the truth is that of the flat scan, which is the same.
  GraphMeasureParams uncoded = params;
  uncoded.codes = nullptr;
  const auto same = MeasureGraph(uncoded, nullptr);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_NEAR(same->recall, measure->recall, 0.01);
  // A narrow walk finds no more.
  GraphMeasureParams narrow = params;
  narrow.breadth = 11;
  EXPECT_LE(MeasureGraph(narrow, nullptr)->recall, measure->recall);
}

TEST(CalibrationTest, AGraphOfTooFewVectorsIsNotMeasured) {
  const ClusteredVectors data = MakeClusteredVectors(31, 64, 1, /*seed=*/5);
  const auto flat = *FlatIndex::Create({.dim = 64});
  ASSERT_TRUE(flat->Add(data.ids, data.rows).ok());
  const auto graph = *GraphIndex::Create(flat.get(), {});
  ASSERT_TRUE(graph->Append(flat->size(), /*num_threads=*/1).ok());
  EXPECT_EQ(MeasureGraph({.rows = flat.get(), .graph = graph.get()}, nullptr).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::index
