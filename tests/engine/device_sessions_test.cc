// Settings of a device that one session changes while another one uses it.
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/device_statements_fixture.h"

namespace intarsia::engine {
namespace {

class DeviceSessionsTest : public DeviceStatementsFixture {
 protected:
  // Statements of another session, which must succeed while this one's goes on.
  void RunElsewhere(const std::vector<std::string>& statements) {
    std::thread([&] {
      Session other(engine_.get());
      for (const std::string& sql : statements) {
        const auto outcome = other.Execute(sql, {});
        EXPECT_TRUE(outcome.ok()) << sql;
      }
    }).join();
  }
};

TEST_F(DeviceSessionsTest, WhileAModelComesToADeviceOthersAskAndSetWhatTheyWant) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.during_load = [this] {
    // Which must end before the load does.
    RunElsewhere({"SHOW CACHE", "SHOW SETTINGS LIKE 'device'", "SET device = 'cuda:0'",
                  "SET device = 'auto'", "EXPLAIN " + Sql(), "CLEAR CACHE"});
  };
  Answer();
  EXPECT_EQ(device.num_there, 1);
  Answer();
  EXPECT_EQ(device.num_loads, 1);
}

TEST_F(DeviceSessionsTest, ABudgetThatChangesDuringALoadHoldsFromTheNextPromptOn) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.during_load = [this] { RunElsewhere({"SET device.kv_bytes_max = '64MiB'"}); };
  Answer("reuse = 'none'");
  EXPECT_EQ(device.num_prefills, 1);
  EXPECT_EQ(device.kv_bytes_max, 0);
  EXPECT_EQ(device.num_there, 0);
  Answer("reuse = 'none'");
  EXPECT_EQ(device.num_loads, 2);
  EXPECT_EQ(device.kv_bytes_max, int64_t{64} << 20);
  EXPECT_EQ(device.num_there, 1);
}

TEST_F(DeviceSessionsTest, WhatIsSetDuringAPrefillABuildOrAStepHoldsFromTheNextOneOn) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Run("SET kv.write_behind = off");
  const std::string expected = Text(Answer("reuse = 'none'"), "answer");
  int64_t megabytes = 64;
  const auto meddle = [&] {
    const int64_t num_loads = device.num_loads;
    RunElsewhere({"SET device.kv_bytes_max = '" + std::to_string(++megabytes) + "MiB'",
                  "SET device.cache_bytes_max = '" + std::to_string(megabytes) + "MiB'",
                  "SET device = 'cpu'", "SHOW CACHE", "EXPLAIN " + Sql(), "SET device = 'cuda:0'",
                  "SET device.code_bytes_max = '" + std::to_string(megabytes) + "MiB'"});
    // What is being computed keeps what it has.
    EXPECT_EQ(device.num_there, 1);
    EXPECT_EQ(device.num_loads, num_loads);
  };
  const auto expect_gone = [&] { EXPECT_EQ(device.num_there, 0); };
  const auto expect_new = [&](int64_t num_loads) {
    EXPECT_EQ(device.num_loads, num_loads);
    EXPECT_EQ(device.kv_bytes_max, megabytes << 20);
    EXPECT_EQ(device.num_there, 1);
  };
  for (std::function<void()>* hook : {&device.during_prefill, &device.during_step}) {
    *hook = meddle;
    const int64_t num_loads = device.num_loads;
    EXPECT_EQ(Text(Answer("reuse = 'none'"), "answer"), expected);
    expect_gone();
    EXPECT_EQ(Text(Answer("reuse = 'none'"), "answer"), expected);
    expect_new(num_loads + 1);
  }
  device.during_build = meddle;
  const auto written = Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(written, "written"), device.num_built);
  expect_gone();
  const int64_t num_loads = device.num_loads;
  EXPECT_GT(Usage(Answer(), "reused_tokens"), 0);
  expect_new(num_loads + 1);
}

TEST_F(DeviceSessionsTest, ABudgetStaysWhenAnotherSessionSetsTheOtherOne) {
  OpenWith(&devices_);
  Run("SET device.kv_bytes_max = '64MiB'");
  Answer();
  RunElsewhere({"SET device.cache_bytes_max = '32MiB'"});
  Answer();
  EXPECT_EQ(devices_.state().kv_bytes_max, int64_t{64} << 20);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes_max", 2), int64_t{32} << 20);
  RunElsewhere({"SET device.kv_bytes_max = '128MiB'"});
  Answer();
  EXPECT_EQ(devices_.state().kv_bytes_max, int64_t{128} << 20);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes_max", 2), int64_t{32} << 20);
}

// A model that has to come anew while an answer keeps the old one may find no room for both.
TEST_F(DeviceSessionsTest, NoRoomBesideAModelThatIsLeavingIsNoReasonToGiveUp) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  Answer("reuse = 'none'");
  const auto answer_without_room = [&] {
    std::thread([&] {
      Session other(engine_.get());
      device.load = Status(StatusCode::kResourceExhausted, "no memory");
      const auto answer = other.Execute(Sql("reuse = 'none'"), {});
      device.load = Status::Ok();
      ASSERT_TRUE(answer.ok());
      EXPECT_TRUE(HasNotice(*answer, "cuda:0 could not: no memory"));
    }).join();
  };
  device.during_step = [&] {
    RunElsewhere({"SET device.kv_bytes_max = '64MiB'"});
    answer_without_room();
  };
  Answer("reuse = 'none'");
  EXPECT_EQ(device.num_there, 0);
  const int64_t num_prefills = device.num_prefills;
  EXPECT_FALSE(HasNotice(Answer("reuse = 'none'"), "cuda:0"));
  EXPECT_EQ(device.num_prefills, num_prefills + 1);
  // Nobody leaves now, so it lasts.
  Run("SET device.kv_bytes_max = '65MiB'");
  answer_without_room();
  Answer("reuse = 'none'");
  EXPECT_EQ(device.num_prefills, num_prefills + 1);
}

TEST_F(DeviceSessionsTest, AFailureUnderABudgetThatChangedDuringTheLoadDoesNotLast) {
  OpenWith(&devices_);
  FakeDeviceState& device = devices_.state();
  device.load = Status(StatusCode::kResourceExhausted, "no memory");
  device.during_load = [this] { RunElsewhere({"SET device.kv_bytes_max = '64MiB'"}); };
  EXPECT_TRUE(HasNotice(Answer("reuse = 'none'"), "cuda:0 could not: no memory"));
  device.load = Status::Ok();
  device.during_load = {};
  EXPECT_FALSE(HasNotice(Answer("reuse = 'none'"), "cuda:0"));
  EXPECT_EQ(device.num_prefills, 1);
  EXPECT_EQ(device.kv_bytes_max, int64_t{64} << 20);
}

}  // namespace
}  // namespace intarsia::engine
