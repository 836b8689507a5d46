#include "base/file.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/base/temporary_folder.h"

namespace intarsia {
namespace {

class FileSystemTest : public testing::Test {
 protected:
  void Write(const std::string& path, std::string_view bytes) {
    ASSERT_TRUE(files_->WriteAtomically(path, bytes).ok());
  }
  std::string Read(const std::string& path) {
    const Result<std::string> bytes = files_->ReadAll(path, 1 << 20);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? *bytes : "";
  }

  FileSystem* const files_ = FileSystem::Local();
  const TemporaryFolder folder_;
};

TEST_F(FileSystemTest, AMissingFileIsNotFoundByName) {
  const std::string path = folder_.File("absent");
  const Status errors[] = {
      files_->OpenForReading(path).status(),
      files_->Map(path).status(),
      files_->ReadAll(path, 10).status(),
      files_->Remove(path),
      files_->List(path).status(),
      files_->WriteAtomically(path + "/below", "x"),
      files_->OpenForAppending(path + "/below").status(),
  };
  for (const Status& error : errors) {
    EXPECT_EQ(error.code(), StatusCode::kNotFound) << error;
    EXPECT_NE(error.message().find(path), std::string_view::npos) << error;
  }
  EXPECT_FALSE(files_->Exists(path));
}

TEST_F(FileSystemTest, AFolderIsNoFileAndAFileNoFolder) {
  const std::string file = folder_.File("file");
  Write(file, "x");
  const Status errors[] = {
      files_->OpenForReading(folder_.path()).status(),
      files_->OpenForAppending(folder_.path()).status(),
      files_->Map(folder_.path()).status(),
      files_->ReadAll(folder_.path(), 10).status(),
      files_->Remove(folder_.path()),
      files_->List(file).status(),
      files_->CreateDirectories(file + "/below"),
  };
  for (const Status& error : errors) {
    EXPECT_EQ(error.code(), StatusCode::kInvalidArgument) << error;
  }
}

TEST_F(FileSystemTest, APipeIsRefusedWithoutWaitingForItsWriter) {
  const std::string pipe = folder_.File("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(files_->OpenForReading(pipe).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(files_->Map(pipe).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(files_->ReadAll(pipe, 10).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(FileSystemTest, ReadAllTakesAFileUpToTheLimitAndNoLarger) {
  const std::string path = folder_.File("file");
  Write(path, "12345");
  EXPECT_EQ(*files_->ReadAll(path, 5), "12345");
  const Status error = files_->ReadAll(path, 4).status();
  EXPECT_EQ(error.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(error.message().find("size=5 limit=4"), std::string_view::npos) << error;
}

TEST_F(FileSystemTest, ReadAllSpansManyBuffers) {
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes.push_back(static_cast<char>(i % 251));
  Write(folder_.File("file"), bytes);
  EXPECT_EQ(Read(folder_.File("file")), bytes);
}

TEST_F(FileSystemTest, ReadAtReadsExactlyItsRange) {
  const std::string path = folder_.File("file");
  Write(path, "0123456789");
  const auto file = files_->OpenForReading(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*(*file)->Size(), 10);
  char target[5] = "____";
  ASSERT_TRUE((*file)->ReadAt(3, 4, target).ok());
  EXPECT_STREQ(target, "3456");
  EXPECT_TRUE((*file)->ReadAt(10, 0, target).ok());

  const Status error = (*file)->ReadAt(8, 4, target);
  EXPECT_EQ(error.code(), StatusCode::kCorruption);
  EXPECT_NE(error.message().find("offset=10 missing=2"), std::string_view::npos) << error;
  EXPECT_FALSE((*file)->ReadAt(-1, 1, target).ok());
  EXPECT_FALSE((*file)->ReadAt(0, -1, target).ok());
}

TEST_F(FileSystemTest, AppendContinuesWhatIsThere) {
  const std::string path = folder_.File("log");
  for (const std::string_view part : {"one ", "two ", "three"}) {
    const auto file = files_->OpenForAppending(path);
    ASSERT_TRUE(file.ok()) << file.status();
    const int64_t before = (*file)->size();
    ASSERT_TRUE((*file)->Append(part).ok());
    ASSERT_TRUE((*file)->Append("").ok());
    ASSERT_TRUE((*file)->Sync().ok());
    EXPECT_EQ((*file)->size(), before + static_cast<int64_t>(part.size()));
  }
  EXPECT_EQ(Read(path), "one two three");
}

TEST_F(FileSystemTest, MapShowsTheWholeFile) {
  Write(folder_.File("file"), "content");
  Write(folder_.File("empty"), "");
  const auto file = files_->Map(folder_.File("file"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), "content");
  const auto empty = files_->Map(folder_.File("empty"));
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ((*empty)->bytes(), "");
}

TEST_F(FileSystemTest, AMappedFileKnowsWhetherItWasWrittenTo) {
  const std::string path = folder_.File("file");
  Write(path, "content");
  const auto file = *files_->Map(path);
  EXPECT_TRUE(file->CheckUnchanged().ok()) << file->CheckUnchanged();
  // WriteAtomically gives the name to another file.
  Write(path, "another");
  EXPECT_TRUE(file->CheckUnchanged().ok()) << file->CheckUnchanged();
  EXPECT_EQ(file->bytes(), "content");

  const auto cut = *files_->Map(path);
  std::filesystem::resize_file(path, 3);
  EXPECT_EQ(cut->CheckUnchanged().code(), StatusCode::kCorruption);
  const auto touched = *files_->Map(path);
  std::filesystem::last_write_time(path,
                                   std::filesystem::last_write_time(path) + std::chrono::hours(1));
  EXPECT_EQ(touched->CheckUnchanged().code(), StatusCode::kCorruption);
}

TEST_F(FileSystemTest, WriteAtomicallyReplacesAndLeavesNothingBeside) {
  const std::string path = folder_.File("file");
  Write(path, "old and longer");
  // What a crash in the middle leaves behind is overwritten.
  Write(path + ".new", "half of someth");
  Write(path, "new");
  EXPECT_EQ(Read(path), "new");
  EXPECT_FALSE(files_->Exists(path + ".new"));
}

TEST_F(FileSystemTest, WriteAtomicallyKeepsTheOldContentWhenTheDiskIsFull) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  const std::string path = folder_.File("file");
  Write(path, "old");
  std::filesystem::create_symlink("/dev/full", path + ".new");
  const Status error = files_->WriteAtomically(path, "new");
  EXPECT_EQ(error.code(), StatusCode::kResourceExhausted) << error;
  EXPECT_EQ(Read(path), "old");
  EXPECT_FALSE(files_->Exists(path + ".new"));
}

TEST_F(FileSystemTest, WriteAtomicallyKeepsOneWholeContentAmongSeveralWriters) {
  const std::string path = folder_.File("file");
  std::vector<std::thread> threads;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    threads.emplace_back([&, letter] {
      for (int i = 0; i < 10; ++i) {
        const std::string content(static_cast<size_t>(1'000 * (letter - 'a' + 1)), letter);
        EXPECT_TRUE(files_->WriteAtomically(path, content).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string content = Read(path);
  ASSERT_FALSE(content.empty());
  EXPECT_EQ(content, std::string(static_cast<size_t>(1'000 * (content[0] - 'a' + 1)), content[0]));
}

TEST_F(FileSystemTest, ListIsSortedAndTellsKindsAndSizes) {
  ASSERT_TRUE(files_->CreateDirectories(folder_.File("b/deep/er")).ok());
  ASSERT_TRUE(files_->CreateDirectories(folder_.File("b/deep/er")).ok());
  Write(folder_.File("c"), "123");
  Write(folder_.File("a"), "");
  const auto entries = files_->List(folder_.path());
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].name, "b");
  EXPECT_TRUE((*entries)[1].is_directory);
  EXPECT_EQ((*entries)[1].num_bytes, 0);
  EXPECT_EQ((*entries)[2].name, "c");
  EXPECT_FALSE((*entries)[2].is_directory);
  EXPECT_EQ((*entries)[2].num_bytes, 3);
}

TEST_F(FileSystemTest, ListTellsLinksAndWhatTheyLeadTo) {
  ASSERT_TRUE(files_->CreateDirectories(folder_.File("folder")).ok());
  Write(folder_.File("file"), "123");
  std::filesystem::create_symlink("nowhere", folder_.File("to_a"));
  std::filesystem::create_symlink("file", folder_.File("to_b"));
  std::filesystem::create_symlink("folder", folder_.File("to_c"));
  const auto entries = files_->List(folder_.path());
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 5u);
  EXPECT_FALSE((*entries)[0].is_link);
  EXPECT_FALSE((*entries)[1].is_link);
  for (size_t i = 2; i < 5; ++i) {
    EXPECT_TRUE((*entries)[i].is_link);
    EXPECT_EQ((*entries)[i].is_directory, i == 4);
    EXPECT_EQ((*entries)[i].num_bytes, i == 3 ? 3 : 0);
  }
}

TEST_F(FileSystemTest, RemoveDeletesAFile) {
  const std::string path = folder_.File("file");
  Write(path, "x");
  EXPECT_TRUE(files_->Exists(path));
  EXPECT_TRUE(files_->Remove(path).ok());
  EXPECT_FALSE(files_->Exists(path));
}

TEST_F(FileSystemTest, AFileOutlivesItsName) {
  const std::string path = folder_.File("file");
  Write(path, "kept");
  const auto file = files_->OpenForReading(path);
  const auto mapping = files_->Map(path);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(mapping.ok());
  ASSERT_TRUE(files_->Remove(path).ok());
  char target[5] = "____";
  ASSERT_TRUE((*file)->ReadAt(0, 4, target).ok());
  EXPECT_STREQ(target, "kept");
  EXPECT_EQ((*mapping)->bytes(), "kept");
}

}  // namespace
}  // namespace intarsia
