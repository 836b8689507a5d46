// CHECK MODEL, and the gate of CREATE MODEL.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/cancel.h"
#include "engine/kv_gate.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class KvGateStatementsTest : public EngineFixture {
 protected:
  std::string Create(const std::string& options) const {
    return "CREATE MODEL g FROM '" + generator_path() + "'" + options;
  }
  // Of an answer from all of a collection.
  int64_t ReusedTokens(const std::string& collection) {
    return Usage(Run("ANSWER 'What is the lamp made of?' FROM " + collection +
                     " WITH (max_tokens = 4, on_no_evidence = 'answer')"),
                 "reused_tokens");
  }
  storage::ModelInfo Info() const { return *engine_->database()->Read().FindModel("g"); }
};

TEST_F(KvGateStatementsTest, ANewModelIsMeasuredAndTheResultIsShown) {
  const auto created = Run(Create(""));
  EXPECT_TRUE(HasNotice(created, "kv_dtype = 'auto'"));
  EXPECT_TRUE(HasNotice(created, "3 prompts"));
  const std::string choice = Info().parameters.at("kv_dtype");
  EXPECT_TRUE(KvFormNamed(choice).has_value()) << choice;
  const std::string shown = Text(Run("SHOW MODELS"), "parameters");
  for (const KvPayloadType form : KvForms()) {
    EXPECT_NE(shown.find("kv_gate_" + std::string(KvFormName(form))), std::string::npos) << shown;
  }
}

TEST_F(KvGateStatementsTest, AGateThatIsOffLeavesTheModelUnmeasuredUntilItIsChecked) {
  Run(Create(" WITH (kv_gate = 'off')"));
  EXPECT_FALSE(Info().parameters.contains("kv_dtype"));
  const auto checked = Run("CHECK MODEL g");
  ASSERT_EQ(checked.rows.size(), KvForms().size());
  int num_chosen = 0;
  for (size_t row = 0; row < checked.rows.size(); ++row) {
    EXPECT_EQ(Text(checked, "form", row), KvFormName(KvForms()[row]));
    if (Text(checked, "chosen", row) != "true") continue;
    ++num_chosen;
    EXPECT_EQ(Text(checked, "passes", row), "true");
    EXPECT_EQ(Text(checked, "form", row), Info().parameters.at("kv_dtype"));
  }
  EXPECT_EQ(num_chosen, 1);
  const storage::ModelInfo before = Info();
  EXPECT_EQ(before.parameters.at("kv_gate"), "12 prompts");
  Open();
  EXPECT_EQ(Info(), before);
}

TEST_F(KvGateStatementsTest, OnlyGeneratorsCanBeMeasured) {
  Run("CREATE MODEL e FROM '" + embedder_path() + "'");
  EXPECT_EQ(Fail("CHECK MODEL e").error_class, query::ErrorClass::kBinder);
  EXPECT_EQ(Fail("CHECK MODEL x").error_class, query::ErrorClass::kCatalog);
  EXPECT_EQ(
      Fail("CREATE MODEL f FROM '" + embedder_path() + "' WITH (kv_gate = 'full')").error_class,
      query::ErrorClass::kBinder);
}

// Cancels at the first report.
class CancellingSink : public ProgressSink {
 public:
  explicit CancellingSink(CancelToken* cancel) : cancel_(*cancel) {}
  void Report(const Progress&) override { cancel_.Cancel(); }

 private:
  CancelToken& cancel_;
};

TEST_F(KvGateStatementsTest, ACancelledGateLeavesAModelThatCanBeUsed) {
  CancelToken cancel;
  CancellingSink sink(&cancel);
  context_.cancel = &cancel;
  context_.progress = &sink;
  const auto created = Run(Create(""));
  context_ = {};
  EXPECT_TRUE(HasNotice(created, "was not measured"));
  EXPECT_FALSE(Info().parameters.contains("kv_dtype"));
  Run("CHECK MODEL g");
  EXPECT_TRUE(Info().parameters.contains("kv_dtype"));
}

TEST_F(KvGateStatementsTest, AnswersComeFromCachesOfEveryForm) {
  CreateDocs();
  Run("SET kv.write_behind = off");
  for (const std::string form : {"bf16", "int8", "int4", "rot4", "auto"}) {
    Run("CREATE COLLECTION " + form + " WITH (chunk_tokens = 48, min_tokens = 8, kv_dtype = '" +
        form + "')");
    WriteDocument("lamp.md", TinyDocuments()[1].text);
    Run("COPY " + form + " FROM '" + DocumentPath("lamp.md") + "'");
    const int64_t header = ReusedTokens(form);
    Run("CACHE COLLECTION " + form);
    EXPECT_GT(ReusedTokens(form), header) << form;
  }
}

}  // namespace
}  // namespace intarsia::engine
