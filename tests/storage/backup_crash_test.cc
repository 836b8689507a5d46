// Backups and restores that are killed: what is there is whole, or says that it is not.
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/backup.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

constexpr int kNumDocuments = 12;
// Files that are done before the end; the fewest that there are.
constexpr int kSteps[] = {0, 1, 2, 4, 6};

// Runs `body` in a process of its own; returns its exit status.
template <typename Body>
int InChild(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class BackupCrashTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "many processes, each with one thread of ours: nothing to find here";
#endif
    ASSERT_EQ(
        InChild([&] {
          DatabaseOptions options;
          options.kv_segment_bytes_max = 64 << 10;
          const auto database = OpenDatabase(folder_ / "kb", options);
          const auto docs = Must(database->CreateCollection(SampleCollection("docs")));
          for (int i = 0; i < kNumDocuments; ++i) {
            const std::string name = "document " + std::to_string(i);
            const auto stored =
                PutOne(database.get(), docs, SampleDocument(name, "text of " + name, 0));
            PutCache(
                database.get(), SampleCache(name, 2, 9'000),
                {.collection = docs, .document = stored[0].id, .chunk = stored[0].first_chunk});
          }
        }),
        0);
  }

  // Options that end the process like a kill at the step `countdown`.
  static BackupOptions KilledAt(int* countdown) {
    BackupOptions options;
    options.on_progress = [countdown](int64_t, int64_t) {
      if (--*countdown < 0) ::_exit(9);
    };
    return options;
  }
  static void ExpectWhole(const std::string& path) {
    const auto database = OpenDatabase(path);
    const ReadView view = database->Read();
    const CollectionInfo docs = Must(view.FindCollection("docs"));
    EXPECT_EQ(Must(view.GetStats(docs.id)).num_documents, kNumDocuments);
    for (int i = 0; i < kNumDocuments; ++i) {
      const std::string name = "document " + std::to_string(i);
      const Document document = Must(view.GetDocumentBySource(docs.id, name));
      EXPECT_EQ(Must(view.GetText(document.text_digest)), "text of " + name);
      EXPECT_TRUE(IsServed(database->kv(), SampleCache(name, 2, 9'000))) << name;
    }
  }

  TemporaryDirectory folder_;
};

TEST_F(BackupCrashTest, ABackupThatIsKilledIsNoneAndIsTakenAgain) {
  for (const int step : kSteps) {
    ASSERT_EQ(InChild([&] {
                int countdown = step;
                Must(OpenDatabase(folder_ / "kb")->BackUp(folder_ / "bk", KilledAt(&countdown)));
              }),
              9);
    const Status status = CheckBackup(folder_ / "bk", {}).status();
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_NE(status.message().find("interrupted"), std::string::npos) << status.ToString();
    EXPECT_FALSE(RestoreBackup(folder_ / "bk", folder_ / "restored", {}).ok());
  }
  ASSERT_EQ(InChild([&] { Must(OpenDatabase(folder_ / "kb")->BackUp(folder_ / "bk", {})); }), 0);
  Must(CheckBackup(folder_ / "bk", {}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "kb/backup.tmp"));
  EXPECT_EQ(InChild([&] { ExpectWhole(folder_ / "kb"); }), 0);
}

TEST_F(BackupCrashTest, ARestoreThatIsKilledIsNoDatabaseAndIsDoneAgain) {
  ASSERT_EQ(InChild([&] { Must(OpenDatabase(folder_ / "kb")->BackUp(folder_ / "bk", {})); }), 0);
  for (const int step : kSteps) {
    ASSERT_EQ(InChild([&] {
                int countdown = step;
                Must(RestoreBackup(folder_ / "bk", folder_ / "restored", KilledAt(&countdown)));
              }),
              9);
    EXPECT_EQ(InChild([&] {
                EXPECT_EQ(Database::Open(folder_ / "restored", {}).status().code(),
                          StatusCode::kInvalidArgument);
              }),
              0);
  }
  Must(RestoreBackup(folder_ / "bk", folder_ / "restored", {}));
  EXPECT_EQ(InChild([&] { ExpectWhole(folder_ / "restored"); }), 0);
}

}  // namespace
}  // namespace intarsia::storage
