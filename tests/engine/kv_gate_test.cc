#include "engine/kv_gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kv_gate_texts.h"
#include "engine/kv_identity.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

KvFormReport Form(KvPayloadType form, double token_bytes, double added_alone, double added_fused) {
  KvFormReport report;
  report.form = form;
  report.token_bytes = token_bytes;
  report.is_usable = true;
  report.alone.added = added_alone;
  report.fused.added = added_fused;
  report.passes = PassesKvGate(report);
  return report;
}

TEST(KvGateRuleTest, AFormPassesIfItAddsNoMoreThanItsLimitBothTimes) {
  EXPECT_TRUE(Form(KvPayloadType::kInt8, 1, 0.001, 0.001).passes);
  EXPECT_FALSE(Form(KvPayloadType::kInt8, 1, 0.0011, 0.0).passes);
  EXPECT_FALSE(Form(KvPayloadType::kInt8, 1, 0.0, 0.0011).passes);
  for (const KvPayloadType form : {KvPayloadType::kInt4, KvPayloadType::kRot4}) {
    EXPECT_TRUE(Form(form, 1, 0.01, 0.01).passes);
    EXPECT_FALSE(Form(form, 1, 0.011, 0.0).passes);
  }
  EXPECT_TRUE(Form(KvPayloadType::kBf16, 1, 0.0, 0.0).passes);
  // What is better than bf16 by chance passes, and what is not a number does not.
  EXPECT_TRUE(Form(KvPayloadType::kInt8, 1, -0.5, -0.5).passes);
  EXPECT_FALSE(Form(KvPayloadType::kInt8, 1, std::numeric_limits<double>::quiet_NaN(), 0).passes);
}

TEST(KvGateRuleTest, AnExcessWithinOneStandardErrorPasses) {
  KvFormReport report = Form(KvPayloadType::kInt8, 1, 0.003, 0.0);
  EXPECT_FALSE(report.passes);
  report.alone.added_error = 0.0025;
  EXPECT_TRUE(PassesKvGate(report));
  report.is_usable = false;
  EXPECT_FALSE(PassesKvGate(report));
}

TEST(KvGateRuleTest, TheSmallestFormThatPassesIsChosen) {
  const KvFormReport bf16 = Form(KvPayloadType::kBf16, 200, 0, 0);
  const KvFormReport int8 = Form(KvPayloadType::kInt8, 102, 0, 0);
  const KvFormReport int4 = Form(KvPayloadType::kInt4, 56, 0.005, 0);
  const KvFormReport rot4 = Form(KvPayloadType::kRot4, 54, 0.02, 0);
  EXPECT_EQ(ChooseKvForm(std::vector{bf16, int8, int4, rot4}), KvPayloadType::kInt4);
  EXPECT_EQ(ChooseKvForm(std::vector{bf16, int8, rot4}), KvPayloadType::kInt8);
  EXPECT_EQ(ChooseKvForm(std::vector{bf16, rot4}), KvPayloadType::kBf16);
  EXPECT_EQ(ChooseKvForm({}), KvPayloadType::kBf16);
}

TEST(KvGateRuleTest, AReportIsStoredWithTheModelInPlaceOfAnOlderOne) {
  storage::ModelInfo info;
  info.parameters = {{"layers", "4"}, {"kv_gate_old", "x"}, {"kv_gate", "3 prompts"}};
  EXPECT_EQ(KvFormOf(info), KvPayloadType::kInt8);
  KvGateReport report;
  report.num_prompts = 12;
  report.choice = KvPayloadType::kInt4;
  report.forms = {Form(KvPayloadType::kBf16, 200, 0, 0), Form(KvPayloadType::kInt4, 56, 0.004, 0)};
  report.forms.emplace_back().form = KvPayloadType::kInt8;
  StoreKvGate(report, &info);
  EXPECT_EQ(KvFormOf(info), KvPayloadType::kInt4);
  EXPECT_EQ(info.parameters.at("layers"), "4");
  EXPECT_EQ(info.parameters.at("kv_gate"), "12 prompts");
  EXPECT_FALSE(info.parameters.contains("kv_gate_old"));
  EXPECT_NE(info.parameters.at("kv_gate_int4").find("adds 0.0040"), std::string::npos);
  EXPECT_EQ(info.parameters.at("kv_gate_int8"), "the model's numbers cannot be kept so");
  info.parameters["kv_dtype"] = "of another version";
  EXPECT_EQ(KvFormOf(info), KvPayloadType::kInt8);
}

TEST(KvGateRuleTest, ACollectionTakesTheModelsChoiceOnlyIfItSaysAuto) {
  storage::ModelInfo model;
  model.parameters["kv_dtype"] = "rot4";
  storage::CollectionInfo collection;
  EXPECT_EQ(KvTypeOf(collection, model), KvPayloadType::kInt8);
  for (const KvPayloadType form : KvForms()) {
    collection.options["kv_dtype"] = KvFormName(form);
    EXPECT_EQ(KvTypeOf(collection, model), form);
  }
  collection.options["kv_dtype"] = "auto";
  EXPECT_EQ(KvTypeOf(collection, model), KvPayloadType::kRot4);
  EXPECT_EQ(KvTypeOf(collection, {}), KvPayloadType::kInt8);
}

TEST(KvGateTextsTest, EveryPromptHasFourPassagesWithTheOneThatIsAskedFor) {
  ASSERT_EQ(std::ssize(KvGateTexts()), kFullGatePrompts);
  for (int64_t index = 0; index < kFullGatePrompts; ++index) {
    const KvGatePrompt prompt = KvGatePromptAt(index);
    const std::set<size_t> passages(prompt.passages.begin(), prompt.passages.end());
    EXPECT_EQ(passages.size(), prompt.passages.size());
    EXPECT_TRUE(passages.contains(prompt.question));
    EXPECT_LT(*passages.rbegin(), KvGateTexts().size());
  }
}

class KvGateTest : public testing::Test {
 protected:
  KvGateTest() : pool_(1), registry_(&pool_) {
    storage::WriteFile(folder_ / "g.gguf", TinyGeneratorBytes({}));
    storage::ModelInfo model =
        *registry_.Inspect(folder_ / "g.gguf", storage::ModelType::kGenerate);
    model.id = 1;
    generator_ = *registry_.GetGenerator(model);
  }

  storage::TemporaryDirectory folder_;
  ThreadPool pool_;
  ModelRegistry registry_;
  std::shared_ptr<const Generator> generator_;
};

TEST_F(KvGateTest, AllFormsAreMeasuredAgainstBf16AndTwoRunsAgree) {
  const KvGateReport report = *MeasureKvForms(*generator_, {.num_prompts = 2});
  EXPECT_EQ(report.num_prompts, 2);
  ASSERT_EQ(report.forms.size(), KvForms().size());
  for (size_t i = 0; i < report.forms.size(); ++i) {
    const KvFormReport& form = report.forms[i];
    SCOPED_TRACE(KvFormName(form.form));
    EXPECT_EQ(form.form, KvForms()[i]);
    EXPECT_TRUE(form.is_usable);
    EXPECT_GT(form.token_bytes, 0.0);
    for (const KvFormCost& cost : {form.alone, form.fused}) {
      EXPECT_TRUE(std::isfinite(cost.kl1));
      EXPECT_GT(cost.kl1, -1e-6);
      EXPECT_GE(cost.added_error, 0.0);
      EXPECT_GE(cost.agreement, 0.0);
      EXPECT_LE(cost.agreement, 1.0);
      EXPECT_LE(cost.num_exact, 2);
    }
    EXPECT_EQ(form.passes, PassesKvGate(form));
  }
  EXPECT_EQ(report.forms[0].form, KvPayloadType::kBf16);
  EXPECT_EQ(report.forms[0].alone.added, 0.0);
  EXPECT_EQ(report.forms[0].fused.added, 0.0);
  EXPECT_LT(report.forms[1].token_bytes, report.forms[0].token_bytes);
  EXPECT_LT(report.forms[2].token_bytes, report.forms[1].token_bytes);
  EXPECT_EQ(report.choice, ChooseKvForm(report.forms));

  const KvGateReport again = *MeasureKvForms(*generator_, {.num_prompts = 2});
  for (size_t i = 0; i < report.forms.size(); ++i) {
    EXPECT_EQ(again.forms[i].alone.kl1, report.forms[i].alone.kl1);
    EXPECT_EQ(again.forms[i].fused.kl1, report.forms[i].fused.kl1);
  }
}

TEST_F(KvGateTest, NumbersOfPromptsOutOfRangeAreRefused) {
  for (const int64_t num_prompts : {int64_t{0}, int64_t{-1}, kFullGatePrompts + 1}) {
    EXPECT_EQ(MeasureKvForms(*generator_, {.num_prompts = num_prompts}).status().code(),
              StatusCode::kInvalidArgument);
  }
}

TEST_F(KvGateTest, ACancelledGateSaysSo) {
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(MeasureKvForms(*generator_, {.num_prompts = 1, .cancel = &cancel}).status().code(),
            StatusCode::kCancelled);
}

// What the catalog says anew reaches the next caller; what is loaded is not loaded again.
TEST_F(KvGateTest, ANewChoiceReachesWhoAsksForTheModel) {
  storage::ModelInfo info = generator_->info;
  info.parameters["kv_dtype"] = "int4";
  const std::shared_ptr<const Generator> renewed = *registry_.GetGenerator(info);
  EXPECT_EQ(KvFormOf(renewed->info), KvPayloadType::kInt4);
  EXPECT_EQ(KvFormOf(generator_->info), KvPayloadType::kInt8);
  EXPECT_EQ(renewed->transformer, generator_->transformer);
}

}  // namespace
}  // namespace intarsia::engine
