// ANSWER on a device: the statements of a user, from the settings to the citations.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/scenario/device_fixture.h"

namespace intarsia::engine {
namespace {

class DeviceAnswerCudaTest : public DeviceFixture {
 protected:
  query::ResultSet AnswerOn(const std::string& device, const std::string& options) {
    Run("SET device = '" + device + "'");
    return Run(Sql(options));
  }
  void ExpectQuotesToStandInTheirChunks(const query::ResultSet& answer) {
    for (const query::Value& citation : Cell(answer, "citations").AsList()) {
      const auto chunk = Run("SELECT content FROM docs WHERE chunk_id = '" +
                             citation.Find("chunk_id")->AsString() + "'");
      EXPECT_TRUE(Has(Text(chunk, "content"), citation.Find("quote")->AsString()));
    }
  }
};

TEST_F(DeviceAnswerCudaTest, APromptIsMadeOfTheSameTokensAsOnTheCpu) {
  // Nothing cached but the header, some chunks, all of them.
  Run("SET kv.write_behind = off");
  for (const std::string cached : {"no.thing", "railway.md", "%"}) {
    Run("CACHE COLLECTION docs WHERE source LIKE '%" + cached + "'");
    for (const char* selector : {"none", "stride", "attention", "design", "prefix", "full"}) {
      SCOPED_TRACE(cached + " " + selector);
      const std::string options = std::string("max_tokens = 4, selector = ") + selector;
      const auto on_cpu = AnswerOn("cpu", options);
      const auto answer = AnswerOn("cuda:0", options);
      for (const char* name : {"prompt_tokens", "fresh_tokens"}) {
        EXPECT_EQ(Usage(answer, name), Usage(on_cpu, name)) << name;
      }
      EXPECT_EQ(Usage(answer, "prompt_tokens"), Usage(answer, "reused_tokens") +
                                                    Usage(answer, "recomputed_tokens") +
                                                    Usage(answer, "fresh_tokens"));
      EXPECT_FALSE(HasNotice(answer, "CPU"));
    }
  }
}

TEST_F(DeviceAnswerCudaTest, AnswersHaveCitationsThatHold) {
  Run("CACHE COLLECTION docs");
  // The model speaks at random, so how many there are is chance.
  for (int seed = 0; seed < 40 && !HasFailure(); ++seed) {
    ExpectQuotesToStandInTheirChunks(AnswerOn(
        "cuda:0", "temperature = 4, top_k = 30, max_tokens = 40, seed = " + std::to_string(seed)));
  }
}

TEST_F(DeviceAnswerCudaTest, AnswersRepeatThemselves) {
  Run("CACHE COLLECTION docs");
  for (const char* options : {"max_tokens = 20", "max_tokens = 20, temperature = 2, seed = 7"}) {
    const auto first = AnswerOn("cuda:0", options);
    const auto second = AnswerOn("auto", options);
    EXPECT_EQ(Text(first, "answer"), Text(second, "answer"));
    EXPECT_GT(Usage(first, "generated_tokens"), 0);
  }
}

TEST_F(DeviceAnswerCudaTest, CachesFromAllTiersGiveTheSameAnswer) {
  Run("CACHE COLLECTION docs");
  const auto first = AnswerOn("cuda:0", "max_tokens = 20");
  // Read, then in pinned memory and coming to the device, then there.
  for (int i = 0; i < 4; ++i) {
    const auto again = AnswerOn("cuda:0", "max_tokens = 20");
    EXPECT_EQ(Text(again, "answer"), Text(first, "answer"));
    EXPECT_EQ(query::ToJson(Cell(again, "usage")), query::ToJson(Cell(first, "usage")));
  }
  const auto shown = Run("SHOW CACHE");
  ASSERT_EQ(shown.rows.size(), 3U);
  EXPECT_GT(Number(shown, "locked_bytes", 1), 0);
  EXPECT_GT(Number(shown, "hits", 2), 0);
  EXPECT_EQ(Number(shown, "in_use", 2), 0);
  Run("CLEAR CACHE");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries", 2), 0);
  EXPECT_GT(Usage(AnswerOn("cuda:0", "max_tokens = 4"), "fresh_tokens"), 0);
}

TEST_F(DeviceAnswerCudaTest, CachesThatAreDamagedOnDiskAreComputedAgain) {
  Run("SET device = 'cuda:0'");
  Run("CACHE COLLECTION docs");
  Close();
  for (const auto& entry : std::filesystem::directory_iterator(database_path() + "/kv")) {
    // Some bits of each layer of each cache.
    std::string bytes = storage::ReadFile(entry.path());
    for (size_t at = 4096; at < bytes.size(); at += 100) bytes[at] ^= 1;
    storage::WriteFile(entry.path(), bytes);
  }
  Open();
  const auto answer = AnswerOn("cuda:0", "max_tokens = 20");
  EXPECT_TRUE(HasNotice(answer, "damaged KV caches were put aside and computed again"));
  EXPECT_EQ(Usage(answer, "prompt_tokens"), Usage(answer, "reused_tokens") +
                                                Usage(answer, "recomputed_tokens") +
                                                Usage(answer, "fresh_tokens"));
  EXPECT_GT(Usage(answer, "fresh_tokens"), 0);
  ASSERT_TRUE(engine_->Finish(nullptr).ok());
  const auto again = AnswerOn("cuda:0", "max_tokens = 20");
  EXPECT_FALSE(HasNotice(again, "damaged"));
  EXPECT_GT(Usage(again, "reused_tokens"), Usage(answer, "reused_tokens"));
}

TEST_F(DeviceAnswerCudaTest, CachesComeFromTheDeviceAndServeTheCpuToo) {
  Run("SET device = 'cuda:0'");
  const auto written = Run("CACHE COLLECTION docs");
  EXPECT_GT(Number(written, "written"), 0);
  EXPECT_TRUE(written.notices.empty());
  EXPECT_EQ(Run("SHOW CACHE").rows.size(), 3U);  // the model is there
  for (const char* device : {"cuda:0", "cpu"}) {
    const auto answer = AnswerOn(device, "max_tokens = 4, selector = 'none'");
    EXPECT_GT(Usage(answer, "reused_tokens"), 0) << device;
    EXPECT_EQ(Usage(answer, "prompt_tokens"),
              Usage(answer, "reused_tokens") + Usage(answer, "fresh_tokens"))
        << device;
  }
  Run("SET device = 'cpu'");
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs"), "already_cached"), Number(written, "written"));
}

TEST_F(DeviceAnswerCudaTest, AnalyzeSaysWhereItRanAndWhatWasLoaded) {
  Run("CACHE COLLECTION docs");
  EXPECT_TRUE(Has(Plan("EXPLAIN " + Sql("max_tokens = 4")), "device=cuda:0\n"));
  const std::string plan = Plan("EXPLAIN ANALYZE " + Sql("max_tokens = 4"));
  EXPECT_TRUE(Has(plan, "device=cuda:0\n")) << plan;
  EXPECT_TRUE(Has(plan, " GB/s, ")) << plan;
  EXPECT_TRUE(Has(plan, " hidden; caches: 0.0 MB on the device, ")) << plan;
  EXPECT_FALSE(Has(plan, "nan"));
  EXPECT_FALSE(Has(plan, "inf"));
}

TEST_F(DeviceAnswerCudaTest, TooSmallABudgetIsAnErrorWithTheRemedyAndANoticeUnderAuto) {
  Run("SET device.kv_bytes_max = 1000");
  const auto answer = AnswerOn("auto", "max_tokens = 4");
  EXPECT_TRUE(HasNotice(answer, "computed on the CPU, because cuda:0 could not"));
  Run("SET device = 'cuda:0'");
  const query::Diagnostic error = Fail(Sql("max_tokens = 4"));
  EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
  EXPECT_TRUE(Has(error.message, "device.kv_bytes_max")) << error.message;
  Run("SET device.kv_bytes_max = '64MiB'");
  EXPECT_GT(Usage(Run(Sql("max_tokens = 4")), "generated_tokens"), 0);
}

}  // namespace
}  // namespace intarsia::engine
