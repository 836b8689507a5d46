#include "engine/kv_manager.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/answer_prompt.h"
#include "engine/fusion/kv_builder.h"
#include "engine/kv_identity.h"
#include "tests/engine/fake_devices.h"
#include "tests/engine/tiny_engine_models.h"

namespace intarsia::engine {
namespace {

class KvManagerTest : public testing::Test {
 protected:
  KvManagerTest() : pool_(2), registry_(&pool_) {
    storage::WriteFile(folder_ / "g.gguf", TinyGeneratorBytes({}));
    database_ = *storage::Database::Open(folder_ / "database", {});
    storage::ModelInfo model =
        *registry_.Inspect(folder_ / "g.gguf", storage::ModelType::kGenerate);
    model.name = "g";
    model.id = *database_->CreateModel(model);
    generator_ = *registry_.GetGenerator(model);
    info_.name = "docs";
    collection_ = info_.id = *database_->CreateCollection(info_);
    header_ = *EncodeAnswerHeader(*generator_);
    family_ = KvFamilyOf(*generator_, header_, info_);
    backends_ = std::make_unique<FusionBackends>(&devices_, &pool_, database_->kv());
    manager_ = std::make_unique<KvManager>(database_.get(), backends_.get());
  }

  // A document with one chunk, and the task to cache it.
  KvTask AddDocument(const std::string& source, const std::string& text) {
    storage::NewDocument document;
    document.source = source;
    document.text = text;
    document.chunks.emplace_back().byte_end = std::ssize(text);
    const uint64_t generation = database_->kv()->generation();
    const auto stored = *database_->PutDocuments(collection_, {&document, 1});
    return {.generator = generator_,
            .header = header_,
            .tokens = *generator_->tokenizer->Encode(text, model::SpecialTokens::kAsText),
            .family = family_,
            .owner = {.collection = collection_,
                      .document = stored[0].id,
                      .chunk = stored[0].first_chunk,
                      .model = generator_->info.id},
            .generation = generation};
  }
  Result<std::shared_ptr<const KvSource>> HeaderOf(const KvFamily& family) {
    return manager_->Header({.generator = generator_.get(), .header = header_, .family = family},
                            nullptr);
  }
  bool IsStored(const KvTask& task) const {
    return database_->kv()->Contains(KvIdentityOf(task.family, task.tokens));
  }
  // Disk for hardly more than a long document's cache, which is there.
  void MakeSpaceShort() {
    manager_->Enqueue(AddDocument("long", Long(0)));
    ASSERT_TRUE(manager_->Drain(nullptr).ok());
    ASSERT_TRUE(database_->kv()->SetBudget(database_->kv()->space().live_bytes / 4 * 5).ok());
  }
  void Delete(const KvTask& task) {
    const storage::DocumentId id = task.owner.document;
    ASSERT_TRUE(database_->DeleteDocuments({&id, 1}).ok());
  }
  // Of a task that waits in the queue: its document goes and comes back, and then that one's cache
  // is stored.
  void ExpectANewerTaskOutlives(const KvTask& old_task,
                                std::unique_ptr<KvManager::StatementScope> scope) {
    Delete(old_task);
    const KvTask new_task = AddDocument("a", "The harbour is deep.");
    manager_->Enqueue(new_task);
    EXPECT_EQ(manager_->num_queued(), 2);
    scope.reset();
    ASSERT_TRUE(manager_->Drain(nullptr).ok());
    EXPECT_TRUE(IsStored(new_task));
    EXPECT_TRUE(IsOwned(new_task));
    EXPECT_FALSE(IsOwned(old_task));
  }
  bool IsOwned(const KvTask& task) const {
    return *database_->kv()->IsOwner(KvIdentityOf(task.family, task.tokens), task.owner);
  }
  std::string Long(int seed) const {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "harbour " + std::to_string(seed * 1'000 + i) + " ";
    return text;
  }

  storage::TemporaryDirectory folder_;
  ThreadPool pool_;
  ModelRegistry registry_;
  std::unique_ptr<storage::Database> database_;
  std::shared_ptr<const Generator> generator_;
  storage::CollectionInfo info_;
  storage::CollectionId collection_ = 0;
  std::vector<int32_t> header_;
  KvFamily family_;
  AbsentDevices devices_;
  std::unique_ptr<FusionBackends> backends_;
  std::unique_ptr<KvManager> manager_;
};

TEST_F(KvManagerTest, WhatIsQueuedIsStoredAndEqualsWhatIsBuiltNow) {
  KvTask task = AddDocument("a", "The harbour is deep.");
  for (const auto& [name, type] :
       {std::pair("int8", KvPayloadType::kInt8), std::pair("bf16", KvPayloadType::kBf16),
        std::pair("int4", KvPayloadType::kInt4)}) {
    info_.options["kv_dtype"] = name;
    task.family = KvFamilyOf(*generator_, header_, info_);
    EXPECT_EQ(manager_->Find(task.family, task.tokens), nullptr) << "found one of another type";
    manager_->Enqueue(task);
    ASSERT_TRUE(manager_->Drain(nullptr).ok());
    const auto stored = manager_->Find(task.family, task.tokens);
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(stored->type(), type);
    EXPECT_EQ(stored->num_tokens(), std::ssize(task.tokens));
    const auto header = *HeaderOf(task.family);
    const auto built = *BuildKv(*generator_->transformer, header.get(), task.tokens, type, nullptr);
    for (size_t layer = 0; layer < built->layers().size(); ++layer) {
      std::vector<uint8_t> bytes(built->layers()[layer].size());
      ASSERT_TRUE(stored->ReadLayer(static_cast<int32_t>(layer), bytes).ok());
      EXPECT_EQ(bytes, built->layers()[layer]);
    }
    std::vector<uint8_t> wrong(3);
    EXPECT_EQ(stored->ReadLayer(0, wrong).code(), StatusCode::kNotFound);
    EXPECT_EQ(stored->ReadLayer(99, wrong).code(), StatusCode::kNotFound);
  }
}

TEST_F(KvManagerTest, ARecordThatDoesNotFitItsNameIsAMiss) {
  const KvTask task = AddDocument("a", "The harbour is deep.");
  const std::string bytes(64, 'x');
  const std::vector<std::string_view> layers = {bytes};
  for (const storage::KvShape shape :
       {storage::KvShape{1, std::ssize(task.tokens), 1},    // another type
        storage::KvShape{1, std::ssize(task.tokens), 259},  // 3, if it were cut to a byte
        storage::KvShape{1, std::ssize(task.tokens) + 1, 3}}) {
    ASSERT_TRUE(database_->kv()->DeleteAll().ok());
    ASSERT_TRUE(database_->kv()
                    ->Put({.identity = KvIdentityOf(task.family, task.tokens),
                           .shape = shape,
                           .layers = layers,
                           .owner = {},
                           .generation = database_->kv()->generation()})
                    .ok());
    EXPECT_EQ(manager_->Find(task.family, task.tokens), nullptr);
  }
}

TEST_F(KvManagerTest, NothingIsWorkedOnWhileAStatementRuns) {
  const KvTask task = AddDocument("a", "The harbour is deep.");
  {
    const KvManager::StatementScope outer(manager_.get());
    {
      const KvManager::StatementScope inner(manager_.get());
      manager_->Enqueue(task);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(manager_->num_queued(), 1);
    EXPECT_FALSE(IsStored(task));
    CancelToken cancel;
    cancel.Cancel();
    EXPECT_EQ(manager_->Drain(&cancel).code(), StatusCode::kCancelled);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_TRUE(IsStored(task));
}

TEST_F(KvManagerTest, AStatementInterruptsWorkThatGoesOnBehindIt) {
  std::vector<KvTask> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(AddDocument("d" + std::to_string(i), Long(i)));
  for (const KvTask& task : tasks) manager_->Enqueue(task);
  for (int i = 0; i < 30; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const KvManager::StatementScope scope(manager_.get());
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  for (const KvTask& task : tasks) EXPECT_TRUE(IsStored(task));
  EXPECT_EQ(database_->kv()->stats().puts, 4);
}

TEST_F(KvManagerTest, EqualIdentitiesWaitOnce) {
  const KvTask task = AddDocument("a", "The harbour is deep.");
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(task);
    manager_->Enqueue(task);
    EXPECT_EQ(manager_->num_queued(), 1);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_EQ(database_->kv()->stats().puts, 1);
  manager_->Enqueue(task);
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_EQ(database_->kv()->stats().puts, 1);
}

TEST_F(KvManagerTest, ADocumentThatCameBackIsCachedThoughItsOldTaskWaits) {
  auto scope = std::make_unique<KvManager::StatementScope>(manager_.get());
  const KvTask old_task = AddDocument("a", "The harbour is deep.");
  manager_->Enqueue(old_task);
  ExpectANewerTaskOutlives(old_task, std::move(scope));
}

TEST_F(KvManagerTest, WhereSpaceIsShortANewerTaskIsAdmittedWithTheOldOne) {
  MakeSpaceShort();
  auto scope = std::make_unique<KvManager::StatementScope>(manager_.get());
  const KvTask old_task = AddDocument("a", "The harbour is deep.");
  manager_->Enqueue(old_task);
  EXPECT_EQ(manager_->num_queued(), 0);
  manager_->Enqueue(old_task);
  EXPECT_EQ(manager_->num_queued(), 1);
  ExpectANewerTaskOutlives(old_task, std::move(scope));
}

TEST_F(KvManagerTest, ChunksOfEqualTextComeToOwnOneCache) {
  const KvTask first = AddDocument("a", "The harbour is deep.");
  const KvTask second = AddDocument("b", "The harbour is deep.");
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(first);
    manager_->Enqueue(second);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_EQ(database_->kv()->stats().puts, 1);
  EXPECT_TRUE(IsOwned(first));
  EXPECT_TRUE(IsOwned(second));
  // One that comes later, too, also where no more caches fit; and then nothing is left to do.
  MakeSpaceShort();
  const KvTask third = AddDocument("c", "The harbour is deep.");
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(third);
    EXPECT_EQ(manager_->num_queued(), 1);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_TRUE(IsOwned(third));
  const KvManager::StatementScope scope(manager_.get());
  manager_->Enqueue(third);
  EXPECT_EQ(manager_->num_queued(), 0);
  Delete(first);
  Delete(second);
  EXPECT_TRUE(IsStored(third));
  Delete(third);
  EXPECT_FALSE(IsStored(third));
}

TEST_F(KvManagerTest, WhatWasQueuedOnceIsRememberedAsLongAsOthersWhenAskedForAgain) {
  constexpr int32_t kRemembered = 16'384;
  MakeSpaceShort();
  KvTask task = AddDocument("a", "The harbour is deep.");
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(task);
    manager_->Enqueue(task);
    Delete(task);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  const KvManager::StatementScope scope(manager_.get());
  manager_->Enqueue(task);
  KvTask other = task;
  for (int32_t i = 1; i < kRemembered; ++i) {
    other.tokens = {i % 256, 1 + i / 256};
    manager_->Enqueue(other);
  }
  ASSERT_EQ(manager_->num_queued(), 0);
  manager_->Enqueue(task);
  EXPECT_EQ(manager_->num_queued(), 1);
}

TEST_F(KvManagerTest, WhatWasDeletedMeanwhileIsNotStored) {
  const KvTask gone = AddDocument("a", Long(1));
  const KvTask cleared = AddDocument("b", Long(2));
  const KvTask kept = AddDocument("c", "Fish.");
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(gone);
    manager_->Enqueue(kept);
    Delete(gone);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_FALSE(IsStored(gone));
  EXPECT_TRUE(IsStored(kept));
  // A deletion while the cache is computed wins too.
  manager_->Enqueue(cleared);
  ASSERT_TRUE(database_->kv()->DeleteAll().ok());
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_FALSE(IsStored(cleared));
}

TEST_F(KvManagerTest, TheFileOfADroppedModelIsNotReadAgain) {
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(AddDocument("a", "The harbour is deep."));
    ASSERT_TRUE(database_->DropModel(generator_->info.id).ok());
    // A read of the mapped weights would end the program now.
    std::filesystem::resize_file(folder_ / "g.gguf", 0);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_EQ(database_->kv()->stats().puts, 0);
}

TEST_F(KvManagerTest, AModelFileThatWasCutOffIsNotRead) {
  {
    const KvManager::StatementScope scope(manager_.get());
    manager_->Enqueue(AddDocument("a", "The harbour is deep."));
    std::filesystem::resize_file(folder_ / "g.gguf", 0);
  }
  ASSERT_TRUE(manager_->Drain(nullptr).ok());
  EXPECT_EQ(database_->kv()->stats().puts, 0);
}

TEST_F(KvManagerTest, TheOldestGoWhenTooManyWait) {
  const KvManager::StatementScope scope(manager_.get());
  KvTask task = AddDocument("a", "Fish.");
  for (int32_t i = 0; i < 1'100; ++i) {
    task.tokens = {i % 256, 1 + i / 256};
    manager_->Enqueue(task);
  }
  EXPECT_EQ(manager_->num_queued(), 1'000);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_FALSE(manager_->Drain(&cancel).ok());
}

TEST_F(KvManagerTest, LeavingDropsTheQueue) {
  constexpr int32_t kTasks = 500;
  KvTask task = AddDocument("a", Long(1));
  {
    const KvManager::StatementScope scope(manager_.get());
    for (int32_t i = 0; i < kTasks; ++i) {
      task.tokens[0] = i % 256;
      task.tokens[1] = i / 256;
      manager_->Enqueue(task);
    }
    EXPECT_EQ(manager_->num_queued(), kTasks);
  }
  // All of them would take many seconds, which pass nowhere between these two lines.
  manager_.reset();
  EXPECT_LT(database_->kv()->stats().puts, kTasks);
}

TEST_F(KvManagerTest, TheHeaderIsComputedOncePerFamily) {
  const auto first = *HeaderOf(family_);
  EXPECT_EQ(*HeaderOf(family_), first);
  EXPECT_EQ(first->num_tokens(), std::ssize(header_));
  ++info_.id;
  const KvFamily other = KvFamilyOf(*generator_, header_, info_);
  EXPECT_NE(other.digest, family_.digest);
  EXPECT_NE(*HeaderOf(other), first);
}

TEST(KvIdentityTest, TokensAndFamiliesAreAllThatNamesACache) {
  const KvFamily a = {.digest = DigestOf("a")};
  const KvFamily b = {.digest = DigestOf("b")};
  const std::vector<int32_t> tokens = {1, 2, 3};
  const std::vector<int32_t> others = {1, 2, 4};
  EXPECT_EQ(KvIdentityOf(a, tokens), KvIdentityOf(a, tokens));
  EXPECT_NE(KvIdentityOf(a, tokens), KvIdentityOf(b, tokens));
  EXPECT_NE(KvIdentityOf(a, tokens), KvIdentityOf(a, others));
  EXPECT_NE(KvIdentityOf(a, tokens), KvIdentityOf(a, {tokens.data(), 2}));
}

}  // namespace
}  // namespace intarsia::engine
