// DeviceStatementsFixture: a database on a machine with devices of the test's choice.
//
// Thread safety: owned by one thread.
#pragma once

#include <string>
#include <string_view>

#include "tests/engine/engine_fixture.h"
#include "tests/engine/fake_devices.h"

namespace intarsia::engine {

class DeviceStatementsFixture : public EngineFixture {
 protected:
  // A database with documents on a machine with these devices.
  void OpenWith(DeviceProvider* devices) {
    Open({.devices = devices});
    Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
    // As the device of the test computes.
    Run("CREATE MODEL g TYPE GENERATE FROM '" + generator_path() +
        "' WITH (kv_gate = 'off', compute = 'f32')");
    Run("CREATE COLLECTION docs WITH (chunk_tokens = 48, min_tokens = 8)");
    FillDocs();
  }
  static std::string Sql(const std::string& options = {}) {
    return "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 20" +
           (options.empty() ? "" : ", " + options) + ")";
  }
  // Nothing is at work behind what these return.
  query::ResultSet Answer(const std::string& options = {}) {
    query::ResultSet answer = Run(Sql(options));
    EXPECT_TRUE(engine_->Finish(nullptr).ok());
    return answer;
  }
  std::string Plan(const std::string& sql) {
    std::string plan = EngineFixture::Plan(sql);
    EXPECT_TRUE(engine_->Finish(nullptr).ok());
    return plan;
  }
  std::string DeviceOf(const std::string& plan) {
    const size_t at = plan.find(" device=");
    if (at == std::string::npos) return "none";
    const size_t begin = at + std::string_view(" device=").size();
    return plan.substr(begin, plan.find('\n', begin) - begin);
  }

  FakeDevices devices_;
};

}  // namespace intarsia::engine
