// Processes killed and files damaged: what was acknowledged is there, or Open says that it is not.
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/database.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

class CrashTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "two hundred processes, each with one thread of ours: nothing to find here";
#endif
  }
};

// Runs `body` in a process of its own and fails here if an expectation fails there.
template <typename Body>
void ExpectInChild(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    std::fflush(stdout);
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status=" << status;
}

// A child process that holds the database open until it is told to end.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    EXPECT_EQ(::pipe(end_), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto database = OpenDatabase(path, {.program = "holder"});
      ::close(end_[1]);
      char byte = 'r';
      if (::write(ready[1], &byte, 1) != 1 || ::read(end_[0], &byte, 1) != 0) ::_exit(1);
      ::_exit(0);  // Without closing the database, as a killed process does.
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
    ::close(end_[0]);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() { End(); }

  void End() {
    if (pid_ == 0) return;
    ::close(end_[1]);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  int end_[2] = {};
};

std::string TextOf(int64_t number) {
  std::string text = "document " + std::to_string(number) + ":";
  for (int64_t i = 0; i < number % 7; ++i) text += " some more of its words";
  return text;
}

// Document `number` of a collection that keeps the last ten of them, with its cache.
std::string SourceOf(int64_t number) { return "source " + std::to_string(number % 10); }

SampleCache CacheOf(int64_t number) { return {"cache " + std::to_string(number), 2, 5000}; }

// Puts documents from `first` on, each acknowledged by its number on `acknowledge`, until killed.
[[noreturn]] void WriteUntilKilled(const std::string& path, int64_t first, int acknowledge) {
  const auto database = OpenDatabase(path);
  const CollectionInfo collection = Must(database->Read().FindCollection("docs"));
  for (int64_t number = first;; ++number) {
    const auto stored =
        PutOne(database.get(), collection.id, SampleDocument(SourceOf(number), TextOf(number), 0));
    if (::write(acknowledge, &number, sizeof(number)) != sizeof(number)) ::_exit(1);
    PutCache(database.get(), CacheOf(number),
             {.collection = collection.id,
              .document = stored.front().id,
              .chunk = stored.front().first_chunk});
  }
}

// The newest number that stands under each source is the acknowledged one or the one after it, and
// everything that hangs on it is whole.
void CheckAll(const std::string& path, int64_t last_acknowledged) {
  const auto database = OpenDatabase(path);
  const ReadView view = database->Read();
  const CollectionInfo collection = Must(view.FindCollection("docs"));
  int64_t num_documents = 0;
  int64_t num_chunks = 0;
  Must(view.ForEachDocument(collection.id, [&](const Document& document) {
    ++num_documents;
    const std::string text = Must(view.GetText(document.text_digest));
    const int64_t number = std::stoll(text.substr(9));
    EXPECT_EQ(text, TextOf(number));
    EXPECT_EQ(document.source, SourceOf(number));
    EXPECT_GT(number, last_acknowledged - 10);
    EXPECT_LE(number, last_acknowledged + 1);
    IsServed(database->kv(), CacheOf(number));  // A miss is fine; other bytes end the program.
    return view.ForEachChunkOf(document, [&](const Chunk&) {
      ++num_chunks;
      return Status::Ok();
    });
  }));
  EXPECT_GE(num_documents, std::min<int64_t>(10, last_acknowledged));
  const CollectionStats stats = Must(view.GetStats(collection.id));
  EXPECT_EQ(stats.num_documents, num_documents);
  EXPECT_EQ(stats.num_chunks, num_chunks);
  EXPECT_EQ(database->kv()->stats().quarantines, 0);
}

TEST_F(CrashTest, SecondWriterIsToldWhoHoldsTheLock) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  const Holder holder(path);
  ExpectInChild([&] {
    const Status status = Database::Open(path, {}).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    const std::string want =
        path + " is open by pid " + std::to_string(holder.pid()) + " (holder); ";
    EXPECT_EQ(std::string(status.message()).substr(0, want.size()), want);
  });
}

TEST_F(CrashTest, LockOfADeadProcessIsTakenOver) {
  const TemporaryDirectory directory;
  Holder holder(directory / "kb");
  holder.End();
  ExpectInChild([&] { EXPECT_TRUE(Database::Open(directory / "kb", {}).ok()); });
}

TEST_F(CrashTest, KilledWriterLosesNothingThatItAcknowledged) {
  constexpr uint64_t kSeed = 20240607;
  std::mt19937_64 random(kSeed);
  SCOPED_TRACE("seed=" + std::to_string(kSeed));
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  ExpectInChild([&] { Must(OpenDatabase(path)->CreateCollection(SampleCollection("docs"))); });
  int64_t last_acknowledged = 0;
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE("round=" + std::to_string(round));
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) WriteUntilKilled(path, last_acknowledged + 1, pipe_ends[1]);
    ::close(pipe_ends[1]);
    int64_t number = 0;
    // Every other process is killed once it has come to write, the rest wherever they are.
    if (round % 2 == 0 && ::read(pipe_ends[0], &number, sizeof(number)) == sizeof(number)) {
      last_acknowledged = number;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    ::kill(child, SIGKILL);
    while (::read(pipe_ends[0], &number, sizeof(number)) == sizeof(number)) {
      last_acknowledged = number;
    }
    ::close(pipe_ends[0]);
    ::waitpid(child, nullptr, 0);
    ExpectInChild([&] { CheckAll(path, last_acknowledged); });
  }
  EXPECT_GT(last_acknowledged, 0);
}

// Writes eight documents in a process that ends without closing the database, so that all of them
// stand in RocksDB's log, and returns the path of the log.
std::string WriteLog(const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto database = OpenDatabase(path);
    const CollectionId docs = Must(database->CreateCollection(SampleCollection("docs")));
    for (int64_t number = 1; number <= 8; ++number) {
      PutOne(database.get(), docs, SampleDocument(SourceOf(number), TextOf(number), 0));
    }
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  std::string largest;
  for (const auto& entry : std::filesystem::directory_iterator(path + "/rocksdb")) {
    if (entry.path().extension() != ".log") continue;
    if (largest.empty() || entry.file_size() > std::filesystem::file_size(largest)) {
      largest = entry.path().string();
    }
  }
  return largest;
}

void ExpectNumDocuments(const std::string& path, int64_t num_documents) {
  ExpectInChild([&] {
    EXPECT_EQ(Must(OpenDatabase(path)->Read().GetStats(1)).num_documents, num_documents);
  });
}

TEST_F(CrashTest, DamageInTheLogIsReportedWhereverItIs) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  const std::string log = WriteLog(path);
  ASSERT_FALSE(log.empty());
  const int64_t log_bits = static_cast<int64_t>(std::filesystem::file_size(log)) * 8;
  std::mt19937_64 random(7);
  for (int round = 0; round < 60; ++round) {
    const std::string copy = directory / ("copy" + std::to_string(round));
    std::filesystem::copy(path, copy, std::filesystem::copy_options::recursive);
    const int64_t bit = static_cast<int64_t>(random() % static_cast<uint64_t>(log_bits));
    FlipBit(copy + log.substr(path.size()), bit);
    ExpectInChild([&] {
      for (const AccessMode access : {AccessMode::kReadOnly, AccessMode::kReadWrite}) {
        const Status status = Database::Open(copy, {.access = access}).status();
        EXPECT_EQ(status.code(), StatusCode::kCorruption)
            << "bit=" << bit << " of " << log_bits << " " << status;
      }
    });
    std::filesystem::remove_all(copy);
  }
}

TEST_F(CrashTest, LostTailIsRefusedUntilItIsDroppedOnPurpose) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  const std::string log = WriteLog(path);
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 10);
  ExpectInChild([&] {
    const Status status = Database::Open(path, {}).status();
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
    EXPECT_NE(status.message().find("acknowledged commits are missing"), std::string_view::npos);
    EXPECT_NE(status.message().find("--accept-loss"), std::string_view::npos);
  });
  ExpectInChild([&] {
    // To look at what is left changes nothing.
    const auto database =
        OpenDatabase(path, {.access = AccessMode::kReadOnly, .damaged_tail = DamagedTail::kDrop});
    EXPECT_EQ(Must(database->Read().GetStats(1)).num_documents, 7);
  });
  ExpectInChild([&] { EXPECT_FALSE(Database::Open(path, {}).ok()); });
  ExpectInChild([&] {
    const auto database = OpenDatabase(path, {.damaged_tail = DamagedTail::kDrop});
    EXPECT_EQ(Must(database->Read().GetStats(1)).num_documents, 7);
  });
  ExpectInChild([&] { EXPECT_TRUE(Database::Open(path, {}).ok()); });
}

TEST_F(CrashTest, TornTailThatNobodyAcknowledgedIsDropped) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  const std::string log = WriteLog(path);
  // A record that a power failure left half written: a header that promises more than there is.
  WriteFile(log, ReadFile(log) + std::string("\x11\x22\x33\x44\xff\x01\x01 half a record", 21));
  ExpectNumDocuments(path, 8);
}

TEST_F(CrashTest, GarbageBehindTheLastCommitIsDropped) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  const std::string log = WriteLog(path);
  // A whole record whose checksum is wrong, as when only some of its pages reached the disk.
  WriteFile(log, ReadFile(log) + std::string("\x11\x22\x33\x44\x04\x00\x01", 7) + "abcd");
  ExpectNumDocuments(path, 8);
}

// Every document and text is as it was put, or reported as damaged.
void CheckDocuments(const std::string& path) {
  const auto database = Database::Open(path, {.access = AccessMode::kReadOnly});
  if (!database.ok()) {
    EXPECT_NE(database.status().code(), StatusCode::kNotFound) << database.status();
    return;
  }
  const ReadView view = (*database)->Read();
  for (int64_t number = 1; number <= 8; ++number) {
    const auto document = view.GetDocumentBySource(1, SourceOf(number));
    if (!document.ok()) {
      EXPECT_EQ(document.status().code(), StatusCode::kCorruption) << document.status();
      continue;
    }
    const auto text = view.GetText(document->text_digest);
    if (text.ok()) {
      EXPECT_EQ(*text, TextOf(number));
    } else {
      EXPECT_EQ(text.status().code(), StatusCode::kCorruption) << text.status();
    }
  }
}

TEST_F(CrashTest, DamagedFilesAreReportedAndNeverAnsweredFrom) {
  const TemporaryDirectory directory;
  const std::string path = directory / "kb";
  ExpectInChild([&] {
    const auto database = OpenDatabase(path);
    const CollectionId docs = Must(database->CreateCollection(SampleCollection("docs")));
    for (int64_t number = 1; number <= 8; ++number) {
      PutOne(database.get(), docs, SampleDocument(SourceOf(number), TextOf(number), 0));
    }
    Must(database->Compact());
  });
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file() && entry.file_size() > 0) files.push_back(entry.path().string());
  }
  ASSERT_FALSE(files.empty());
  std::mt19937_64 random(11);
  for (int round = 0; round < 100; ++round) {
    const std::string& file = files[random() % files.size()];
    const std::string whole = ReadFile(file);
    const auto bit = static_cast<int64_t>(random() % (whole.size() * 8));
    SCOPED_TRACE(file + " bit=" + std::to_string(bit));
    FlipBit(file, bit);
    ExpectInChild([&] { CheckDocuments(path); });
    WriteFile(file, whole);
  }
}

// Puts documents of a megabyte until one fails, and returns how many were taken.
int64_t FillUp(Database* database, CollectionId docs) {
  for (int64_t number = 0;; ++number) {
    std::string text = TextOf(number);
    while (text.size() < (1U << 20)) text += DigestOf(std::to_string(text.size())).ToHex();
    NewDocument document = SampleDocument("large " + std::to_string(number), "", 0);
    document.text = std::move(text);
    const Status status = database->PutDocuments(docs, {&document, 1}).status();
    if (status.ok()) continue;
    if (status.code() != StatusCode::kResourceExhausted) Must(status);
    return number;
  }
}

// Mounts a file system of 64 MiB at `path` that ends with this process; false without the right to.
bool MountSmallDisk(const std::string& path) {
  if (::unshare(CLONE_NEWNS) != 0) {
    const std::string user = "0 " + std::to_string(::getuid()) + " 1";
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    WriteFile("/proc/self/uid_map", user);
  }
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=64m") == 0;
}

TEST_F(CrashTest, FullDiskRefusesDocumentsAndTakesThemWhenThereIsRoomAgain) {
  constexpr int kNoSmallDisk = 77;
  const TemporaryDirectory directory;
  const std::string disk = directory / "disk";
  std::filesystem::create_directory(disk);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!MountSmallDisk(disk)) ::_exit(kNoSmallDisk);
    WriteFile(disk + "/ballast", std::string(32U << 20, 'x'));
    const auto database = OpenDatabase(disk + "/kb");
    const CollectionId docs = Must(database->CreateCollection(SampleCollection("docs")));
    const int64_t num_taken = FillUp(database.get(), docs);
    if (Must(database->Read().GetStats(docs)).num_documents != num_taken) ::_exit(2);
    std::filesystem::remove(disk + "/ballast");
    PutOne(database.get(), docs, SampleDocument("small", "fits now", 0));
    if (Must(database->Read().GetStats(docs)).num_documents != num_taken + 1) ::_exit(3);
    ::_exit(num_taken > 2 ? 0 : 4);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoSmallDisk) GTEST_SKIP() << "no right to mount a small disk";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace intarsia::storage
