// SET device: where answers are computed, and what happens when a device cannot.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/device_statements_fixture.h"

namespace intarsia::engine {
namespace {

using DeviceStatementsTest = DeviceStatementsFixture;

TEST_F(DeviceStatementsTest, TheSettingIsShownAndABadValueChangesNothing) {
  const auto shown = Run("SHOW SETTINGS LIKE 'device'");
  ASSERT_EQ(shown.rows.size(), 1U);
  EXPECT_EQ(Text(shown, "value"), "auto");
  for (const char* value : {"'gpu'", "'cuda'", "'cuda:'", "'cuda:x'", "'cuda:-1'", "'cuda:0 '",
                            "'cuda:99999999999'", "'cuda:1x'"}) {
    const query::Diagnostic error = Fail(std::string("SET device = ") + value);
    EXPECT_EQ(error.error_class, query::ErrorClass::kBinder) << value;
    EXPECT_TRUE(Has(error.message, "'auto', 'cpu' and 'cuda:N'")) << error.message;
    EXPECT_TRUE(error.has_place()) << value;
  }
  EXPECT_EQ(Fail("SET device = 3").error_class, query::ErrorClass::kBinder);
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'device'"), "value"), "auto");
  Run("SET device = CPU");
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'device'"), "value"), "CPU");
  Run("SET device TO 'auto'");
}

TEST_F(DeviceStatementsTest, ADeviceThatIsNotThereIsRefusedWithTheRemedy) {
  OpenWith(&no_devices_);
  const query::Diagnostic error = Fail("SET device = 'cuda:0'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kUnsupported);
  EXPECT_TRUE(Has(error.message, "cuda:0 cannot be used: there is no device")) << error.message;
  EXPECT_TRUE(Has(error.message, "SET device = 'cpu' or 'auto'")) << error.message;
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'device'"), "value"), "auto");
  Open({.devices = &devices_});
  Run("SET device = 'cuda:0'");
  EXPECT_EQ(Fail("SET device = 'cuda:1'").error_class, query::ErrorClass::kInput);
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'device'"), "value"), "cuda:0");
}

TEST_F(DeviceStatementsTest, AutoWithoutADeviceUsesTheCpuAndSaysSoOnceIfTheProgramCouldUseOne) {
  OpenWith(&no_devices_);
  EXPECT_TRUE(Has(Plan("EXPLAIN " + Sql()), " device=cpu\n"));
  EXPECT_FALSE(HasNotice(Answer(), "device"));
  no_devices_.is_built_ = true;
  Open({.devices = &no_devices_});
  EXPECT_TRUE(HasNotice(Answer(), "on the CPU: there is no device"));
  EXPECT_FALSE(HasNotice(Answer(), "device"));
  Session other(engine_.get());
  const auto answer = other.Execute(Sql(), {});
  ASSERT_TRUE(answer.ok());
  EXPECT_FALSE(HasNotice(*answer, "device"));
  Open({.devices = &no_devices_});
  Run("SET device = 'cpu'");
  EXPECT_FALSE(HasNotice(Answer(), "device"));
}

TEST_F(DeviceStatementsTest, ADeviceGivesTheAnswerThatTheCpuGives) {
  OpenWith(&devices_);
  Run("SET device = 'cpu'");
  Run("CACHE COLLECTION docs");
  const auto on_cpu = Answer();
  EXPECT_EQ(DeviceOf(Plan("EXPLAIN ANALYZE " + Sql())), "cpu");
  EXPECT_EQ(devices_.state().num_loads, 0);
  for (const char* device : {"auto", "cuda:0"}) {
    Run(std::string("SET device = '") + device + "'");
    EXPECT_EQ(DeviceOf(Plan("EXPLAIN " + Sql())), "cuda:0");
    const auto answer = Answer();
    EXPECT_EQ(Text(answer, "answer"), Text(on_cpu, "answer"));
    EXPECT_EQ(query::ToJson(Cell(answer, "citations")), query::ToJson(Cell(on_cpu, "citations")));
    EXPECT_EQ(query::ToJson(Cell(answer, "usage")), query::ToJson(Cell(on_cpu, "usage")));
    const std::string plan = Plan("EXPLAIN ANALYZE " + Sql());
    EXPECT_EQ(DeviceOf(plan), "cuda:0");
    EXPECT_TRUE(Has(plan,
                    "load 2.0 ms at 2.0 GB/s, 75 % hidden; caches: 0.0 MB on the device, "
                    "3.0 MB in pinned memory, 1.0 MB read"))
        << plan;
  }
  EXPECT_EQ(devices_.state().num_loads, 1);
  EXPECT_EQ(devices_.state().num_prefills, 4);
}

TEST_F(DeviceStatementsTest, PlanningLoadsNothing) {
  OpenWith(&devices_);
  Plan("EXPLAIN " + Sql());
  EXPECT_EQ(devices_.state().num_loads, 0);
}

TEST_F(DeviceStatementsTest, AModelThatDoesNotFitRunsOnTheCpuUnderAutoAndIsAnErrorElse) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.load = Status(StatusCode::kResourceExhausted, "no memory");
  EXPECT_TRUE(HasNotice(Answer(), "computed on the CPU, because cuda:0 could not: no memory"));
  EXPECT_FALSE(HasNotice(Answer(), "cuda:0"));
  EXPECT_EQ(DeviceOf(Plan("EXPLAIN " + Sql())), "cpu");
  EXPECT_EQ(device.num_loads, 1);
  Run("SET device = 'cuda:0'");
  for (int i = 0; i < 2; ++i) {
    const query::Diagnostic error = Fail(Sql());
    EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
    EXPECT_TRUE(Has(error.message, "cuda:0: no memory")) << error.message;
    EXPECT_TRUE(Has(error.message, "device.kv_bytes_max")) << error.message;
  }
  EXPECT_EQ(device.num_loads, 2);
  // Setting it again tries again.
  device.load = Status::Ok();
  Run("SET device = 'auto'");
  EXPECT_FALSE(HasNotice(Answer(), "cuda:0"));
  EXPECT_EQ(device.num_prefills, 1);
}

TEST_F(DeviceStatementsTest, ASelectorThatADeviceLacksRunsOnTheCpuUnderAutoAndIsAnErrorElse) {
  OpenWith(&devices_);
  devices_.state().prefill = Status(StatusCode::kUnsupported, "no such selector");
  const auto answer = Answer("selector = 'deviation'");
  EXPECT_TRUE(HasNotice(answer, "computed on the CPU, because cuda:0 could not: no such selector"));
  EXPECT_EQ(devices_.state().num_prefills, 0);
  Answer();
  EXPECT_EQ(devices_.state().num_prefills, 1);
  Run("SET device = 'cuda:0'");
  const query::Diagnostic error = Fail(Sql("selector = 'deviation'"));
  EXPECT_EQ(error.error_class, query::ErrorClass::kUnsupported);
  EXPECT_TRUE(Has(error.message, "cuda:0: no such selector")) << error.message;
  EXPECT_TRUE(Has(error.message, "SET device = 'cpu'")) << error.message;
}

TEST_F(DeviceStatementsTest, ADeviceThatFailsFailsTheAnswerAndLeavesTheEngineUsable) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.step = Status(StatusCode::kInternal, "device lost");
  const query::Diagnostic error = Fail(Sql());
  EXPECT_EQ(error.error_class, query::ErrorClass::kInternal);
  EXPECT_TRUE(Has(error.message, "cuda:0: device lost")) << error.message;
  EXPECT_TRUE(Has(error.message, "SET device = 'cpu'")) << error.message;
  device.health = Status(StatusCode::kInternal, "the device was lost");
  EXPECT_EQ(DeviceOf(Plan("EXPLAIN ANALYZE " + Sql())), "cpu");
  Run("SET device = 'cuda:0'");
  EXPECT_TRUE(Has(Fail(Sql()).message, "cuda:0: the device was lost"));
  Run("SET device = 'cpu'");
  Answer();
  // A failure that the device survives costs one answer.
  device.step = Status::Ok();
  device.health = Status::Ok();
  device.num_prefills = 0;
  Run("SET device = 'auto'");
  Answer();
  EXPECT_EQ(device.num_prefills, 1);
}

TEST_F(DeviceStatementsTest, AnAnswerOnADeviceCanBeCancelled) {
  OpenWith(&devices_);
  Answer();
  CancelToken cancel;
  cancel.Cancel();
  context_.cancel = &cancel;
  EXPECT_EQ(Fail(Sql()).error_class, query::ErrorClass::kCancelled);
  context_.cancel = nullptr;
  Answer();
}

TEST_F(DeviceStatementsTest, CachesInMemoryLieWhereADeviceCopiesFrom) {
  OpenWith(&devices_);
  Run("CACHE COLLECTION docs");
  const auto in_memory = [this](std::string_view column) {
    return Number(Run("SHOW CACHE"), column, 1);
  };
  // The first use is counted, the second brings caches in, the third finds them.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(devices_.state().num_pinned, 0);
    Answer();
  }
  EXPECT_EQ(devices_.state().num_pinned, 8);
  EXPECT_EQ(in_memory("entries"), 8);
  EXPECT_EQ(in_memory("locked_bytes"), in_memory("bytes"));
  EXPECT_EQ(Number(Run("SHOW CACHE"), "locked_bytes", 0), 0);
  // What comes in before a device is used is ordinary memory, and no worse.
  Open({.devices = &devices_});
  Run("SET device = 'cpu'");
  for (int i = 0; i < 3; ++i) Answer();
  EXPECT_EQ(in_memory("entries"), 8);
  EXPECT_EQ(in_memory("locked_bytes"), 0);
  Run("SET device = 'auto'");
  Answer();
  EXPECT_EQ(devices_.state().num_pinned, 0);
  // Deleted caches are no longer found, wherever they lie.
  Run("CLEAR CACHE");
  EXPECT_EQ(in_memory("bytes"), 0);
}

TEST_F(DeviceStatementsTest, CachesStayOnTheDeviceUntilTheyAreRemoved) {
  OpenWith(&devices_);
  Run("SET device = 'cpu'");
  Run("CACHE COLLECTION docs");
  EXPECT_EQ(Run("SHOW CACHE").rows.size(), 2U);
  Run("SET device = 'auto'");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(devices_.state().num_resident, 0);
    Answer();
  }
  EXPECT_EQ(devices_.state().num_resident, 8);
  const auto shown = Run("SHOW CACHE");
  ASSERT_EQ(shown.rows.size(), 3U);
  EXPECT_EQ(Text(shown, "tier", 2), "device");
  EXPECT_EQ(Number(shown, "entries", 2), 8);
  EXPECT_EQ(Number(shown, "hits", 2), 8);
  EXPECT_EQ(Number(shown, "in_use", 2), 0);
  EXPECT_EQ(Number(shown, "bytes_max", 2), int64_t{1} << 30);
  const int64_t num_harbour =
      Number(Run("SELECT COUNT(*) FROM docs WHERE source LIKE '%harbour.md'"), "count");
  Run("DELETE FROM docs WHERE source LIKE '%harbour.md'");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries", 2), 8 - num_harbour);
  Run("CLEAR CACHE");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes", 2), 0);
  Run("SET device.cache_bytes_max = 0");
  Run("CACHE COLLECTION docs");
  for (int i = 0; i < 3; ++i) Answer();
  EXPECT_EQ(devices_.state().num_resident, 0);
}

TEST_F(DeviceStatementsTest, ADeviceComputesCachesSeveralAtOnceThatTheCpuFinds) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Run("SET device = 'cpu'");
  const auto by_cpu = Run("CACHE COLLECTION docs");
  const auto answer_by_cpu = Answer();
  EXPECT_EQ(device.num_loads, 0);
  Run("CLEAR CACHE");
  Run("SET device = 'cuda:0'");
  const auto by_device = Run("CACHE COLLECTION docs");
  EXPECT_EQ(device.num_builds, 1);
  EXPECT_EQ(device.num_built, Number(by_cpu, "written"));
  for (const char* column : {"written", "tokens", "kv_bytes"}) {
    EXPECT_EQ(Number(by_device, column), Number(by_cpu, column)) << column;
  }
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs"), "already_cached"), device.num_built);
  Run("SET device = 'cpu'");
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs"), "already_cached"), device.num_built);
  const auto answer = Answer();
  EXPECT_EQ(Text(answer, "answer"), Text(answer_by_cpu, "answer"));
  EXPECT_EQ(query::ToJson(Cell(answer, "usage")), query::ToJson(Cell(answer_by_cpu, "usage")));
}

TEST_F(DeviceStatementsTest, CachesThatAreWrittenBehindComeFromTheDeviceOfTheAnswer) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Answer();
  const int64_t num_cached = Number(Run("SHOW CACHE"), "entries");
  EXPECT_GT(num_cached, 0);
  EXPECT_EQ(device.num_built, num_cached);
  EXPECT_EQ(device.num_builds, 2);  // the header's is the other one
  Run("SET device = 'cpu'");
  Run("CLEAR CACHE");
  Answer();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), num_cached);
  EXPECT_EQ(device.num_built, num_cached);
}

TEST_F(DeviceStatementsTest,
       CachesThatADeviceCannotComputeComeFromTheCpuUnderAutoAndAreAnErrorElse) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.build = Status(StatusCode::kResourceExhausted, "no pages");
  const auto written = Run("CACHE COLLECTION docs");
  EXPECT_TRUE(HasNotice(written, "computed on the CPU, because cuda:0 could not: no pages"));
  EXPECT_GT(Number(written, "written"), 0);
  Run("CLEAR CACHE");
  Run("SET device = 'cuda:0'");
  const query::Diagnostic error = Fail("CACHE COLLECTION docs");
  EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
  EXPECT_TRUE(Has(error.message, "cuda:0: no pages")) << error.message;
  EXPECT_TRUE(Has(error.message, "SET device = 'cpu'")) << error.message;
  device.build = Status::Ok();
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs"), "written"), Number(written, "written"));
}

TEST_F(DeviceStatementsTest, TheBudgetOfKeysAndValuesReachesTheDeviceAndModelsLeaveIt) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Answer();
  EXPECT_EQ(device.kv_bytes_max, 0);
  Run("SET device.kv_bytes_max = '64MiB'");
  EXPECT_EQ(device.num_there, 0);
  Answer();
  EXPECT_EQ(device.kv_bytes_max, int64_t{64} << 20);
  Run("SET device.kv_bytes_max = '64MiB'");
  EXPECT_EQ(device.num_there, 1);
  EXPECT_EQ(device.num_loads, 2);
  EXPECT_EQ(Fail("SET device.kv_bytes_max = -1").error_class, query::ErrorClass::kBinder);
  Run("DROP MODEL g");
  EXPECT_EQ(device.num_there, 0);
}

TEST_F(DeviceStatementsTest, AHeaderThatTheCpuComputedForADeviceIsNotTakenForTheDevices) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Run("SET device = 'cpu'");
  Run("CACHE COLLECTION docs");
  Run("SET device = 'auto'");
  device.build = Status(StatusCode::kResourceExhausted, "no pages");
  EXPECT_TRUE(HasNotice(Answer(), "no pages"));
  EXPECT_EQ(device.num_builds, 0);
  device.build = Status::Ok();
  EXPECT_FALSE(HasNotice(Answer(), "cuda:0"));
  EXPECT_EQ(device.num_builds, 1);
  EXPECT_FALSE(HasNotice(Answer(), "cuda:0"));
  EXPECT_EQ(device.num_builds, 1);
  EXPECT_EQ(device.num_built, 0);  // chunks
}

TEST_F(DeviceStatementsTest, ADeviceComputesInFp8WhatWasRegisteredSo) {
  OpenWith(&devices_);
  Run("SET device = 'cuda:0'");
  Answer();
  EXPECT_EQ(devices_.state().compute, model::CudaCompute::kBf16);
  Run("CREATE MODEL fast TYPE GENERATE FROM '" + generator_path() +
      "' WITH (kv_gate = 'off', compute = 'fp8')");
  const std::string sql = "ANSWER 'harbour?' FROM docs USING fast WITH (min_score = -1)";
  // As a device that is too old refuses.
  devices_.state().load = Status(StatusCode::kUnsupported, "no such products");
  EXPECT_TRUE(Has(Fail(sql).message, "no such products"));
  EXPECT_EQ(devices_.state().compute, model::CudaCompute::kFp8);
  // Its caches are those of the CPU's arithmetic.
  const int64_t num_built = devices_.state().num_built;
  Run("CACHE COLLECTION docs USING fast");
  EXPECT_EQ(devices_.state().num_built, num_built);
  Run("SET device = 'cpu'");
  EXPECT_TRUE(Has(Plan("EXPLAIN ANALYZE " + sql), " device=cpu\n"));
}

}  // namespace
}  // namespace intarsia::engine
