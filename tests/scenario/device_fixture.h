// DeviceFixture: a filled database on the device of this machine; without one its tests are
// skipped.
//
// Thread safety: owned by one thread.
#pragma once

#include <string>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {

class DeviceFixture : public EngineFixture {
 protected:
  void SetUp() override {
    if (!LocalDevices()->Check(0).ok()) GTEST_SKIP() << "no device";
    storage::WriteFile(generator_path(), TinyGeneratorBytes({.hidden = 128, .head_dim = 64}));
    machine_ = LocalDevices();
    Open();
    Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
    Run("CREATE MODEL g TYPE GENERATE FROM '" + generator_path() +
        "' WITH (kv_gate = 'off', compute = 'f32')");
    Run("CREATE COLLECTION docs WITH (chunk_tokens = 48, min_tokens = 8)");
    FillDocs();
  }

  static std::string Sql(const std::string& options) {
    return "ANSWER 'harbour?' FROM docs WITH (min_score = -1, " + options + ")";
  }
};

}  // namespace intarsia::engine
