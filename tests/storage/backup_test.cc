// Backups: taken while the database is in use, checked, restored, refused.
#include "storage/backup.h"

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/storage/faulty_file_system.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

namespace fs = std::filesystem;

class BackupTest : public testing::Test {
 protected:
  BackupTest() {
    DatabaseOptions options;
    options.kv_segment_bytes_max = 64 << 10;
    database_ = OpenDatabase(folder_ / "kb", options);
    docs_ = Must(database_->CreateCollection(SampleCollection("docs")));
    for (int i = 0; i < 20; ++i) Add(i);
  }

  void Add(int number) {
    const std::string name = "document " + std::to_string(number);
    const StoredDocument stored =
        PutOne(database_.get(), docs_, SampleDocument(name, "the text of " + name, 0)).front();
    PutCache(database_.get(), SampleCache(name, 2, 5'000),
             {.collection = docs_, .document = stored.id, .chunk = stored.first_chunk});
  }
  // Fails unless the database in `path` holds the documents [0, count) and their caches.
  void ExpectHolds(const std::string& path, int count) {
    const auto database = OpenDatabase(path);
    const ReadView view = database->Read();
    const CollectionInfo docs = Must(view.FindCollection("docs"));
    EXPECT_EQ(Must(view.GetStats(docs.id)).num_documents, count);
    for (int i = 0; i < count; ++i) {
      const std::string name = "document " + std::to_string(i);
      const Document document = Must(view.GetDocumentBySource(docs.id, name));
      EXPECT_EQ(Must(view.GetText(document.text_digest)), "the text of " + name);
      EXPECT_TRUE(IsServed(database->kv(), SampleCache(name, 2, 5'000))) << name;
    }
  }
  std::vector<std::string> FilesOf(const std::string& backup) {
    const BackupManifest manifest = Must(ReadBackupManifest(FileSystem::Local(), backup));
    std::vector<std::string> paths;
    for (const BackupFile& file : manifest.files) {
      if (file.num_bytes > 0) paths.push_back(backup + "/" + file.name);
    }
    return paths;
  }

  TemporaryDirectory folder_;
  std::unique_ptr<Database> database_;
  CollectionId docs_ = 0;
};

TEST_F(BackupTest, ARestoredBackupHoldsWhatTheDatabaseHeldThen) {
  const BackupReport report = Must(database_->BackUp(folder_ / "bk", {}));
  EXPECT_GT(report.num_files, 3);
  EXPECT_GT(report.num_bytes, 20 * 2 * 5'000);
  EXPECT_EQ(report.num_shared_bytes, 0);
  Add(20);
  const BackupReport checked = Must(CheckBackup(folder_ / "bk", {}));
  EXPECT_EQ(checked.num_bytes, report.num_bytes);
  EXPECT_EQ(checked.commit, report.commit);
  EXPECT_EQ(checked.created, report.created);
  Must(RestoreBackup(folder_ / "bk", folder_ / "restored", {}));
  ExpectHolds(folder_ / "restored", 20);
  // What the restored database writes does not reach the backup.
  {
    const auto restored = OpenDatabase(folder_ / "restored");
    EXPECT_EQ(restored->uuid(), database_->uuid());
    PutOne(restored.get(), docs_, SampleDocument("new", "new", 0));
  }
  Must(CheckBackup(folder_ / "bk", {}));
  EXPECT_FALSE(fs::exists(folder_ / "kb/backup.tmp"));
  database_.reset();
  ExpectHolds(folder_ / "kb", 21);
}

TEST_F(BackupTest, WritersGoOnMeanwhile) {
  std::atomic<bool> is_done{false};
  std::thread writer([&] {
    for (int i = 20; !is_done.load(); ++i) {
      PutOne(database_.get(), docs_, SampleDocument("document " + std::to_string(i), "x", 0));
    }
  });
  for (int i = 0; i < 3; ++i) {
    const std::string name = "bk" + std::to_string(i);
    const auto before = Must(database_->Read().GetStats(docs_)).num_documents;
    const BackupReport report = Must(database_->BackUp(folder_ / name, {}));
    Must(RestoreBackup(folder_ / name, folder_ / ("restored" + name), {}));
    const auto restored = OpenDatabase(folder_ / ("restored" + name));
    const ReadView view = restored->Read();
    const auto held = Must(view.GetStats(docs_)).num_documents;
    EXPECT_GE(held, before);
    EXPECT_GE(static_cast<int64_t>(report.commit), held);
    int64_t num_found = 0;
    Must(view.ForEachDocument(docs_, [&](const Document& document) {
      ++num_found;
      return view.GetText(document.text_digest).status();
    }));
    EXPECT_EQ(num_found, held);
  }
  is_done = true;
  writer.join();
}

TEST_F(BackupTest, ABackupWithABaseSharesWhatIsTheSameAndIsWholeWithoutIt) {
  const BackupReport first = Must(database_->BackUp(folder_ / "one", {}));
  Add(20);
  BackupOptions options;
  options.base = folder_ / "one";
  const BackupReport second = Must(database_->BackUp(folder_ / "two", options));
  EXPECT_GT(second.num_shared_bytes, first.num_bytes / 2);
  EXPECT_LT(second.num_shared_bytes, second.num_bytes);
  fs::remove_all(folder_ / "one");
  Must(CheckBackup(folder_ / "two", {}));
  Must(RestoreBackup(folder_ / "two", folder_ / "restored", {}));
  ExpectHolds(folder_ / "restored", 21);
}

TEST_F(BackupTest, WhatIsDamagedInTheBaseIsCopiedAnew) {
  Must(database_->BackUp(folder_ / "one", {}));
  for (const std::string& path : FilesOf(folder_ / "one")) FlipBit(path, 77);
  BackupOptions options;
  options.base = folder_ / "one";
  EXPECT_EQ(Must(database_->BackUp(folder_ / "two", options)).num_shared_bytes, 0);
  Must(CheckBackup(folder_ / "two", {}));
}

TEST_F(BackupTest, AFileSystemWithoutLinksGetsCopies) {
  Must(database_->BackUp(folder_ / "one", {}));
  FaultyFileSystem without_links;
  BackupOptions options;
  options.file_system = &without_links;
  options.base = folder_ / "one";
  EXPECT_EQ(Must(database_->BackUp(folder_ / "two", options)).num_shared_bytes, 0);
  Must(CheckBackup(folder_ / "two", {}));
}

TEST_F(BackupTest, EveryDamagedFileIsFoundAndNamed) {
  Must(database_->BackUp(folder_ / "bk", {}));
  for (const std::string& path : FilesOf(folder_ / "bk")) {
    const auto middle = static_cast<int64_t>(fs::file_size(path)) * 4;
    FlipBit(path, middle);
    for (const Status& status :
         {CheckBackup(folder_ / "bk", {}).status(),
          RestoreBackup(folder_ / "bk", folder_ / "restored", {}).status()}) {
      EXPECT_EQ(status.code(), StatusCode::kCorruption) << path;
      EXPECT_NE(status.message().find(path), std::string::npos) << status.ToString();
    }
    EXPECT_FALSE(fs::exists(folder_ / "restored"));
    FlipBit(path, middle);
  }
  Must(CheckBackup(folder_ / "bk", {}));
  const std::string path = FilesOf(folder_ / "bk").front();
  fs::resize_file(path, fs::file_size(path) - 1);
  EXPECT_EQ(CheckBackup(folder_ / "bk", {}).status().code(), StatusCode::kCorruption);
  fs::remove(path);
  EXPECT_EQ(CheckBackup(folder_ / "bk", {}).status().code(), StatusCode::kCorruption);
}

TEST_F(BackupTest, NothingIsOverwritten) {
  Must(database_->BackUp(folder_ / "bk", {}));
  const auto code_of = [&](const std::string& target) {
    return database_->BackUp(target, {}).status().code();
  };
  EXPECT_EQ(code_of(folder_ / "bk"), StatusCode::kAlreadyExists);
  EXPECT_EQ(code_of(folder_ / "kb/inside"), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(folder_ / "kb"), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(""), StatusCode::kInvalidArgument);
  WriteFile(folder_ / "file", "x");
  EXPECT_FALSE(database_->BackUp(folder_ / "file", {}).ok());
  EXPECT_EQ(ReadFile(folder_ / "file"), "x");
  fs::create_directory(folder_ / "mine");
  WriteFile(folder_ / "mine/letter.txt", "dear");
  EXPECT_EQ(code_of(folder_ / "mine"), StatusCode::kAlreadyExists);
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "mine", {}).status().code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(folder_ / "mine/letter.txt"), "dear");
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "kb", {}).status().code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "bk/kv/x", {}).status().code(),
            StatusCode::kInvalidArgument);
  Must(CheckBackup(folder_ / "bk", {}));
}

TEST_F(BackupTest, WhatIsNoBackupIsRefusedWithItsReason) {
  const auto message_of = [&](const std::string& path) {
    const Status status = CheckBackup(path, {}).status();
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    return std::string(status.message());
  };
  EXPECT_NE(message_of(folder_ / "nowhere").find("no backup here"), std::string::npos);
  EXPECT_NE(message_of(folder_ / "kb").find("a database and not a backup"), std::string::npos);
  const auto other = OpenDatabase(folder_ / "other");
  Must(other->BackUp(folder_ / "bk", {}));
  BackupOptions options;
  options.base = folder_ / "bk";
  EXPECT_EQ(database_->BackUp(folder_ / "x", options).status().code(),
            StatusCode::kInvalidArgument);
  // A backup cannot be opened, and so not be changed.
  EXPECT_EQ(Database::Open(folder_ / "bk", {}).status().code(), StatusCode::kInvalidArgument);
  const auto reader = OpenDatabase(folder_ / "kb", {.access = AccessMode::kReadOnly});
  EXPECT_EQ(reader->BackUp(folder_ / "y", {}).status().code(), StatusCode::kUnsupported);
}

TEST_F(BackupTest, AMarkerBesideWhatIsWholeDoesNotGiveItAway) {
  // As a kill between the last two steps leaves them.
  Must(database_->BackUp(folder_ / "bk", {}));
  WriteFile(folder_ / "bk/BACKUP.unfinished", "unfinished\n");
  EXPECT_EQ(database_->BackUp(folder_ / "bk", {}).status().code(), StatusCode::kAlreadyExists);
  Must(RestoreBackup(folder_ / "bk", folder_ / "restored", {}));
  WriteFile(folder_ / "restored/RESTORE.unfinished", "unfinished\n");
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "restored", {}).status().code(),
            StatusCode::kAlreadyExists);
  ExpectHolds(folder_ / "restored", 20);
}

TEST_F(BackupTest, ForeignFilesAreLeftOut) {
  WriteFile(folder_ / "kb/kv/my notes (1).txt", "not a segment");
  Must(database_->BackUp(folder_ / "bk", {}));
  EXPECT_FALSE(fs::exists(folder_ / "bk/kv/my notes (1).txt"));
  Must(CheckBackup(folder_ / "bk", {}));
}

TEST_F(BackupTest, CancellingLeavesNothing) {
  CancelToken cancel;
  BackupOptions options;
  options.cancel = &cancel;
  options.on_progress = [&](int64_t, int64_t) { cancel.Cancel(); };
  EXPECT_EQ(database_->BackUp(folder_ / "bk", options).status().code(), StatusCode::kCancelled);
  EXPECT_FALSE(fs::exists(folder_ / "bk"));
  EXPECT_FALSE(fs::exists(folder_ / "kb/backup.tmp"));
  Must(database_->BackUp(folder_ / "bk", {}));
  cancel.Reset();
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "restored", options).status().code(),
            StatusCode::kCancelled);
  EXPECT_FALSE(fs::exists(folder_ / "restored"));
}

TEST_F(BackupTest, ProgressReachesItsEnd) {
  int64_t last = 0;
  int64_t total = 0;
  BackupOptions options;
  options.on_progress = [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  const BackupReport report = Must(database_->BackUp(folder_ / "bk", options));
  EXPECT_EQ(last, report.num_bytes);
  EXPECT_EQ(total, report.num_bytes);
  last = 0;
  options.base = folder_ / "bk";
  Must(database_->BackUp(folder_ / "bk2", options));
  EXPECT_EQ(last, total);
}

TEST_F(BackupTest, AFullDiskIsSaidAndLeavesNothing) {
  FaultyFileSystem disk;
  BackupOptions options;
  options.file_system = &disk;
  disk.Grant(100'000);
  EXPECT_EQ(database_->BackUp(folder_ / "bk", options).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_FALSE(fs::exists(folder_ / "bk"));
  Must(database_->BackUp(folder_ / "bk", {}));
  disk.Grant(100'000);
  EXPECT_EQ(RestoreBackup(folder_ / "bk", folder_ / "restored", options).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_FALSE(fs::exists(folder_ / "restored"));
}

TEST(BackupManifestTest, NamesThatLeaveTheDirectoryAreRefused) {
  for (const std::string name : {"../kb/FORMAT", "rocksdb/../../x", "/etc/passwd", "kv/", "kv/a/b",
                                 "FORMAT", "BACKUP", "", "rocksdb/.hidden", "kv/a\nb"}) {
    BackupManifest manifest;
    manifest.files = {{.name = name, .num_bytes = 0, .pieces = {}}};
    EXPECT_EQ(DecodeBackupManifest("p", EncodeBackupManifest(manifest)).status().code(),
              StatusCode::kCorruption)
        << name;
  }
}

TEST(BackupManifestTest, EveryFlippedBitAndEveryCutIsFound) {
  BackupManifest manifest;
  manifest.commit = 7;
  manifest.files = {{.name = "kv/a", .num_bytes = 3, .pieces = {{1, 2}}},
                    {.name = "rocksdb/b", .num_bytes = 0, .pieces = {}}};
  const std::string bytes = EncodeBackupManifest(manifest);
  EXPECT_EQ(Must(DecodeBackupManifest("p", bytes)), manifest);
  for (size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_FALSE(DecodeBackupManifest("p", std::string_view(bytes).substr(0, i)).ok());
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      EXPECT_EQ(DecodeBackupManifest("p", flipped).status().code(), StatusCode::kCorruption);
    }
  }
  std::string newer = bytes + "more fields";
  newer[8] = 2;
  EXPECT_EQ(DecodeBackupManifest("p", newer).status().code(), StatusCode::kUnsupported);
}

TEST(BackupManifestTest, SizesAndCountsThatLieAreRefused) {
  // A file list that claims more than there is, with a checksum that fits.
  const auto sealed = [](uint32_t num_files, int64_t num_bytes, const std::string& name) {
    ByteWriter writer;
    writer.WriteBytes("INTABKUP");
    writer.Write(kBackupVersion);
    writer.WriteString(EncodeDirectoryFormat({}));
    writer.Write(uint64_t{1});
    writer.Write(int64_t{1});
    writer.Write(num_files);
    writer.WriteString(name);
    writer.Write(num_bytes);
    const Checksum checksum = ChecksumOf(writer.bytes());
    writer.Write(checksum.low);
    writer.Write(checksum.high);
    return std::move(writer).TakeBytes();
  };
  EXPECT_TRUE(DecodeBackupManifest("p", sealed(1, 0, "kv/a")).ok());
  for (const int64_t num_bytes : {int64_t{-1}, int64_t{1} << 62, int64_t{1} << 43, int64_t{1}}) {
    EXPECT_FALSE(DecodeBackupManifest("p", sealed(1, num_bytes, "kv/a")).ok()) << num_bytes;
  }
  EXPECT_FALSE(DecodeBackupManifest("p", sealed(2, 0, "kv/a")).ok());
  EXPECT_FALSE(DecodeBackupManifest("p", sealed(0xffffffff, 0, "kv/a")).ok());
  EXPECT_FALSE(DecodeBackupManifest("p", sealed(0, 0, "kv/a")).ok());
}

}  // namespace
}  // namespace intarsia::storage
