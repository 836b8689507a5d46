#include "base/async_reader.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned_array.h"

namespace intarsia {
namespace {

constexpr int64_t kPage = AsyncReader::kAlignment;

class AsyncReaderTest : public testing::Test {
 protected:
  // Makes a file of ten pages and a bit; page i holds the letter 'a' + i.
  void SetUp() override {
    std::string folder = std::filesystem::temp_directory_path() / "async-reader-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    for (int i = 0; i < 10; ++i) content_.append(kPage, static_cast<char>('a' + i));
    content_ += "the end";
    ASSERT_TRUE(FileSystem::Local()->WriteAtomically(path(), content_).ok());
    file_ = FileSystem::Local()->OpenDirect(path());
    reader_ = AsyncReader::Create(4);
    if (file_ == nullptr || reader_ == nullptr) GTEST_SKIP() << "no asynchronous reads here";
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string path() const { return folder_ + "/file"; }
  // Where page `page` of the memory begins.
  uint8_t* At(int64_t page) {
    const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (kPage - begin % kPage) % kPage + page * kPage;
  }
  std::string TextAt(int64_t page, int64_t num_bytes) {
    return {reinterpret_cast<const char*>(At(page)), static_cast<size_t>(num_bytes)};
  }
  // Waits for all that is in flight.
  std::map<int64_t, int64_t> WaitForAll() {
    std::map<int64_t, int64_t> bytes_by_tag;
    while (reader_->num_in_flight() > 0) {
      for (const AsyncReader::Done& done : reader_->Wait()) bytes_by_tag[done.tag] = done.num_bytes;
    }
    return bytes_by_tag;
  }

  std::string folder_;
  std::string content_;
  AlignedArray<uint8_t> memory_{24 * kPage};  // outlives the reader
  std::unique_ptr<DirectFile> file_;
  std::unique_ptr<AsyncReader> reader_;
};

TEST_F(AsyncReaderTest, EveryReadBringsItsBytesWhateverTheOrder) {
  for (int round = 0; round < 20; ++round) {
    std::map<int64_t, int64_t> bytes_by_tag;
    for (int64_t page = 9; page >= 0; --page) {
      if (reader_->is_full()) bytes_by_tag.merge(WaitForAll());
      reader_->Start({.file = file_.get(),
                      .offset = page * kPage,
                      .num_bytes = kPage,
                      .target = At(page),
                      .tag = page});
    }
    bytes_by_tag.merge(WaitForAll());
    ASSERT_EQ(bytes_by_tag.size(), 10U);
    for (const auto& [page, num_bytes] : bytes_by_tag) {
      EXPECT_EQ(num_bytes, kPage);
      EXPECT_EQ(TextAt(page, kPage), content_.substr(static_cast<size_t>(page * kPage), kPage));
    }
  }
}

TEST_F(AsyncReaderTest, AReadAtTheEndOfAFileSaysHowMuchThereWas) {
  reader_->Start({.file = file_.get(),
                  .offset = 9 * kPage,
                  .num_bytes = 4 * kPage,
                  .target = At(0),
                  .tag = 7});
  EXPECT_EQ(WaitForAll(), (std::map<int64_t, int64_t>{{7, kPage + 7}}));
  EXPECT_EQ(TextAt(1, 7), "the end");
  reader_->Start(
      {.file = file_.get(), .offset = 20 * kPage, .num_bytes = kPage, .target = At(0), .tag = 8});
  EXPECT_EQ(WaitForAll(), (std::map<int64_t, int64_t>{{8, 0}}));
}

TEST_F(AsyncReaderTest, AReaderThatGoesWaitsForItsReads) {
  for (int round = 0; round < 20; ++round) {
    auto reader = AsyncReader::Create(2);
    ASSERT_NE(reader, nullptr);
    reader->Start(
        {.file = file_.get(), .offset = 0, .num_bytes = 10 * kPage, .target = At(0), .tag = 0});
    reader.reset();
    EXPECT_EQ(TextAt(0, 10 * kPage), content_.substr(0, 10 * kPage));
  }
}

TEST_F(AsyncReaderTest, WaitingForNothingReturnsAtOnce) { EXPECT_TRUE(reader_->Wait().empty()); }

TEST_F(AsyncReaderTest, AFileThatIsNoneIsNotOpened) {
  EXPECT_EQ(FileSystem::Local()->OpenDirect(folder_), nullptr);
  EXPECT_EQ(FileSystem::Local()->OpenDirect(folder_ + "/absent"), nullptr);
}

}  // namespace
}  // namespace intarsia
