// ScenarioFixture: a filled database that some misfortune must leave as it was, and usable.
//
// Thread safety: owned by one thread.
#pragma once

#include <string>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {

class ScenarioFixture : public EngineFixture {
 protected:
  ScenarioFixture() {
    CreateFilledDocs();
    Run("CACHE COLLECTION docs");
    before_ = Everything();
  }

  // All that a user sees of the database, but for times.
  std::string Everything() {
    std::string all;
    for (const std::string sql :
         {"SHOW MODELS", "SHOW COLLECTIONS", "SELECT * FROM docs",
          "SEARCH 'the harbour of the town' IN docs LIMIT 100", "SHOW CACHE FOR docs"}) {
      const query::ResultSet result = Run(sql);
      for (const query::Row& row : result.rows) {
        for (const query::Value& cell : row) all += query::ToJson(cell) + "|";
        all += "\n";
      }
    }
    return all;
  }

  // Nothing has changed, and everything still works.
  void ExpectUnchangedAndUsable() {
    EXPECT_EQ(Everything(), before_);
    Run("INSERT INTO docs (id, content) VALUES ('probe', 'Ice stands in the deep bay.')");
    EXPECT_EQ(Text(Run("SEARCH 'Ice stands in the deep bay.' IN docs LIMIT 1"), "source"), "probe");
    const query::ResultSet answer =
        Run("ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 2)");
    EXPECT_EQ(Usage(answer, "generated_tokens"), 2);
    Finish();
    Run("DELETE FROM docs WHERE source = 'probe'");
    EXPECT_EQ(Everything(), before_);
  }

  std::string before_;
};

}  // namespace intarsia::engine
