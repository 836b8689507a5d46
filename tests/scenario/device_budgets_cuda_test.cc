// Processes and sessions that share a device, each within its budget.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "kernels/paged_kv.h"
#include "tests/scenario/device_fixture.h"
#include "tests/scenario/program.h"

namespace intarsia::engine {
namespace {

using client::Program;
using client::ProgramEnd;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kNewTokens = 20;

class DeviceBudgetsCudaTest : public DeviceFixture {
 protected:
  void SetUp() override {
    DeviceFixture::SetUp();
    if (IsSkipped()) return;
    Run("SET kv.write_behind = off");
    Run("SET device = 'cuda:0'");
    Run("CACHE COLLECTION docs");
  }

  // Texts are compared without caches and for one load of the model: which caches are worth loading
  // and by which plan a product is computed is measured, so that other bits come of it.
  static std::string Question(const std::string& options = {}) {
    return Sql("max_tokens = " + std::to_string(kNewTokens) + options);
  }
  static std::string Plain() { return Question(", reuse = 'none'"); }
  static std::string KvBudget(int64_t num_bytes) {
    return "SET device.kv_bytes_max = " + std::to_string(num_bytes);
  }
  // Another process asks the question, with the database as it is now.
  std::unique_ptr<Program> AskElsewhere(const std::string& settings) const {
    return std::make_unique<Program>(std::vector<std::string>{
        database_path(), "--readonly", "--json", "-c",
        "SET kv.write_behind = off; " + settings + "; " + Question() + "; " + Plain()});
  }
  // The number behind `name` in a message.
  static int64_t NumberIn(const std::string& message, const std::string& name) {
    const size_t at = message.find(name);
    EXPECT_NE(at, std::string::npos) << message;
    return at == std::string::npos ? 0 : std::atoll(message.c_str() + at + name.size());
  }
  // What a page takes, from the error of a budget without one.
  int64_t PageBytes() {
    Run(KvBudget(1000));
    const query::Diagnostic error = Fail(Question());
    EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
    EXPECT_TRUE(Has(error.message, "cuda:0: ")) << error.message;
    EXPECT_TRUE(Has(error.message, "SET device.kv_bytes_max")) << error.message;
    EXPECT_EQ(NumberIn(error.message, " bytes="), 1000);
    return NumberIn(error.message, " want=");
  }
  // The pages of the question and its answer.
  int64_t NumPages() {
    Run("SET device = 'cpu'");
    const int64_t num_tokens = Usage(Run(Question()), "prompt_tokens") + kNewTokens;
    Run("SET device = 'cuda:0'");
    return kernels::NumPagesFor(num_tokens);
  }
  static int64_t PoolBytes() {
    const auto info = kernels::QueryDevice(0);
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? info->pool_bytes : 0;
  }
};

TEST_F(DeviceBudgetsCudaTest, ABudgetIsEnoughTooSmallOrMoreThanThereIsAndTheNextOneWorks) {
  const int64_t page_bytes = PageBytes();
  const int64_t num_pages = NumPages();
  ASSERT_GT(num_pages, 1);
  // For the longest prompt that fits, not one page more.
  Run(KvBudget(num_pages * page_bytes));
  EXPECT_GT(Usage(Run(Question()), "generated_tokens"), 0);
  Run(KvBudget(num_pages * page_bytes - 1));
  const query::Diagnostic error = Fail(Question());
  EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
  EXPECT_EQ(NumberIn(error.message, " wanted="), num_pages) << error.message;
  EXPECT_EQ(NumberIn(error.message, " of="), num_pages - 1) << error.message;
  EXPECT_EQ(NumberIn(error.message, " which take "), page_bytes) << error.message;
  EXPECT_TRUE(Has(error.message, "SET device.kv_bytes_max")) << error.message;
  // A shorter answer fits, though the model has just refused one.
  EXPECT_GT(Usage(Run(Sql("k = 1, max_tokens = 1")), "prompt_tokens"), 0);
  Run(KvBudget(int64_t{1} << 50));
  const query::Diagnostic refused = Fail(Question());
  EXPECT_EQ(refused.error_class, query::ErrorClass::kResource);
  EXPECT_TRUE(Has(refused.message, "more than the device has")) << refused.message;
  EXPECT_TRUE(Has(refused.message, "SET device.kv_bytes_max")) << refused.message;
  Run("SET device = 'auto'");
  Run(KvBudget((num_pages - 1) * page_bytes));
  const auto on_cpu = Run(Question());
  EXPECT_TRUE(HasNotice(on_cpu, "computed on the CPU, because cuda:0 could not"));
  EXPECT_GT(Usage(on_cpu, "generated_tokens"), 0);
  Run(KvBudget(64 * kMiB));
  EXPECT_TRUE(Has(Plan("EXPLAIN ANALYZE " + Question()), "device=cuda:0\n"));
}

TEST_F(DeviceBudgetsCudaTest, AModelThatLeavesGivesItsMemoryToOtherProcesses) {
  Run(KvBudget(1024 * kMiB));
  Run(Question());
  const int64_t much = PoolBytes();
  EXPECT_GE(much, 1024 * kMiB);
  Run(KvBudget(64 * kMiB));
  EXPECT_LE(PoolBytes(), much - 900 * kMiB);
  Run(Question());
  EXPECT_LE(PoolBytes(), much - 900 * kMiB);
  Run(KvBudget(1024 * kMiB));
  Run(Question());
  EXPECT_GE(PoolBytes(), 1024 * kMiB);
  Run("DROP COLLECTION docs");
  Run("DROP MODEL g");
  EXPECT_LE(PoolBytes(), much - 900 * kMiB);
}

TEST_F(DeviceBudgetsCudaTest, ProcessesWithUnequalBudgetsAnswerBesideEachOther) {
  const int64_t page_bytes = PageBytes();
  const int64_t num_pages = NumPages();
  Run(KvBudget(1024 * kMiB));
  const auto expected = Run(Plain());
  const std::string text = Text(expected, "answer");
  ASSERT_GT(Usage(expected, "generated_tokens"), 0);
  const std::string size =
      "\"prompt_tokens\":" + std::to_string(Usage(expected, "prompt_tokens")) + ",";

  const auto generous = AskElsewhere("SET device = 'cuda:0'; " + KvBudget(1024 * kMiB));
  const auto exact = AskElsewhere("SET device = 'cuda:0'; " + KvBudget(num_pages * page_bytes) +
                                  "; SET device.cache_bytes_max = 0");
  const auto short_of_memory =
      AskElsewhere("SET device = 'cuda:0'; " + KvBudget((num_pages - 1) * page_bytes));
  const auto falling_back = AskElsewhere(KvBudget(1000));
  // This one goes on beside them.
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Text(Run(Plain()), "answer"), text);
    EXPECT_GT(Usage(Run(Question()), "generated_tokens"), 0);
  }
  const ProgramEnd generous_end = generous->Wait();
  EXPECT_EQ(generous_end.exit_code, 0) << generous_end.err;
  EXPECT_TRUE(Has(generous_end.out, size)) << generous_end.out;
  EXPECT_FALSE(Has(generous_end.err, "CPU")) << generous_end.err;
  const ProgramEnd exact_end = exact->Wait();
  EXPECT_EQ(exact_end.exit_code, 0) << exact_end.err;
  EXPECT_TRUE(Has(exact_end.out, size)) << exact_end.out;
  EXPECT_FALSE(Has(exact_end.err, "CPU")) << exact_end.err;
  const ProgramEnd short_end = short_of_memory->Wait();
  EXPECT_EQ(short_end.exit_code, 1) << short_end.out;
  EXPECT_TRUE(Has(short_end.err, "device kv pool: too few free pages")) << short_end.err;
  EXPECT_TRUE(Has(short_end.err, "SET device.kv_bytes_max")) << short_end.err;
  const ProgramEnd back_end = falling_back->Wait();
  EXPECT_EQ(back_end.exit_code, 0) << back_end.err;
  EXPECT_TRUE(Has(back_end.out, size)) << back_end.out;
  EXPECT_TRUE(Has(back_end.out + back_end.err, "computed on the CPU, because cuda:0 could not"))
      << back_end.out << back_end.err;
  EXPECT_EQ(Text(Run(Plain()), "answer"), text);
}

TEST_F(DeviceBudgetsCudaTest, SettingsChangeWhileOthersAnswerAndComputeCaches) {
  Run(KvBudget(64 * kMiB));
  const int64_t num_tokens = Usage(Run(Question()), "prompt_tokens");
  // Neither Run nor Fail here: they wait until nothing is in use.
  const auto execute = [this](Session* session, const std::string& sql) {
    auto outcome = session->Execute(sql, {});
    if (outcome.ok()) return *std::move(outcome);
    ADD_FAILURE() << query::RenderDiagnostic(outcome.diagnostic(), sql);
    return query::ResultSet();
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      Session session(engine_.get());
      execute(&session, "SET kv.write_behind = off");
      execute(&session, "SET device = 'cuda:0'");
      for (int i = 0; i < 6; ++i) {
        if (thread == 0) {
          execute(&session, "CACHE COLLECTION docs");
          execute(&session, "CLEAR CACHE");
          continue;
        }
        const query::ResultSet answer = execute(&session, Question());
        EXPECT_EQ(Usage(answer, "prompt_tokens"), num_tokens);
        EXPECT_GT(Usage(answer, "generated_tokens"), 0);
      }
    });
  }
  Session session(engine_.get());
  for (int i = 1; i <= 8; ++i) {
    const std::string size = std::to_string(64 + i) + "MiB'";
    execute(&session, "SET device.kv_bytes_max = '" + size);
    execute(&session, "SET device = 'cpu'");
    execute(&session, "SET device.cache_bytes_max = '" + size);
    execute(&session, "SET device = 'auto'");
    execute(&session, "SET device.code_bytes_max = '" + size);
    execute(&session, "SHOW CACHE");
    EXPECT_FALSE(HasNotice(execute(&session, Question()), "CPU"));
  }
  for (std::thread& thread : threads) thread.join();
  // As if nothing had been.
  Run(KvBudget(64 * kMiB));
  Run("CACHE COLLECTION docs");
  const auto answer = Run(Question());
  EXPECT_EQ(Usage(answer, "prompt_tokens"), num_tokens);
  EXPECT_GT(Usage(answer, "generated_tokens"), 0);
  EXPECT_TRUE(Has(Plan("EXPLAIN ANALYZE " + Question()), "device=cuda:0\n"));
  EXPECT_EQ(Number(Run("SHOW CACHE"), "in_use", 2), 0);
}

}  // namespace
}  // namespace intarsia::engine
