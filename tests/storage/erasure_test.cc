// Documents that are erased: no file holds anything of them, and what is left is noticed.
#include "storage/erasure.h"

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/rocks.h"
#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

class ErasureTest : public KvStoreFixture {
 protected:
  // Words that no other document has, in lines that compress well.
  static std::string TextOf(const std::string& name, uint32_t seed) {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < 200; ++i) {
      text += "the " + name + " number " + std::to_string(random()) + " and the same again\n";
    }
    return text;
  }
  DocumentId AddDocument(const std::string& name, const std::string& text) {
    const StoredDocument stored =
        PutOne(database_.get(), docs_, SampleDocument(name, text, 0)).front();
    PutCache(
        database_.get(), *MakeCache(name),
        {.collection = docs_, .document = stored.id, .chunk = stored.first_chunk, .model = model_});
    return stored.id;
  }
  Result<EraseReport> Erase(DocumentId id, const CancelToken* cancel = nullptr) {
    return database_->Erase(std::vector<DocumentId>{id}, {.cancel = cancel});
  }

  // The files that hold `bytes`, as they are or in a row of a table.
  std::vector<std::string> FilesWith(const std::string& bytes) {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "kb")) {
      if (!entry.is_regular_file()) continue;
      const std::string path = entry.path().string();
      bool is_found = ReadFile(path).find(bytes) != std::string::npos;
      if (path.ends_with(".sst")) {
        const auto visit = [&](std::string_view, std::string_view key, std::string_view value) {
          is_found = is_found || key.find(bytes) != std::string_view::npos ||
                     value.find(bytes) != std::string_view::npos;
          return Status::Ok();
        };
        EXPECT_TRUE(Rocks::ScanTable(path, visit).ok());
      }
      if (is_found) paths.push_back(path);
    }
    return paths;
  }
  // Some of the text, and of each layer of the cache.
  std::vector<std::string> TracesOf(const std::string& name, const std::string& text) {
    std::vector<std::string> traces = {text.substr(0, 60), text.substr(text.size() / 2, 60),
                                       text.substr(text.size() - 60)};
    const auto cache = MakeCache(name);
    for (const std::string& layer : cache->payloads) {
      traces.push_back(layer.substr(layer.size() / 3, 40));
    }
    return traces;
  }
};

TEST_F(ErasureTest, NoFileHoldsTextOrCachesAfterwards) {
  const std::string secret = TextOf("secret", 1);
  const std::string other = TextOf("other", 2);
  AddDocument("other", other);
  const DocumentId id = AddDocument("secret", secret);
  AddDocument("third", TextOf("third", 3));
  // In logs, and then in compressed tables, the texts are found: the search here can fail.
  for (const std::string& trace : TracesOf("secret", secret))
    EXPECT_FALSE(FilesWith(trace).empty());
  ASSERT_TRUE(database_->Compact().ok());
  for (const std::string& trace : TracesOf("secret", secret))
    EXPECT_FALSE(FilesWith(trace).empty());

  const EraseReport report = Must(Erase(id));
  EXPECT_EQ(report.num_documents, 1);
  EXPECT_EQ(report.num_caches, 1);
  EXPECT_GT(report.bytes_freed, kCacheDiskBytes / 2);
  EXPECT_GT(report.num_pieces, 200);
  EXPECT_GT(report.num_files, 5);
  EXPECT_GT(report.num_rows, 10);
  for (const std::string& trace : TracesOf("secret", secret)) EXPECT_TRUE(FilesWith(trace).empty());
  for (const std::string& trace : TracesOf("other", other)) EXPECT_FALSE(FilesWith(trace).empty());
  EXPECT_FALSE(IsServed(store(), *MakeCache("secret")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("other")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("third")));
  EXPECT_EQ(Must(database_->Erase(std::vector<DocumentId>{id}, {})).num_documents, 0);
  Open();
  for (const std::string& trace : TracesOf("secret", secret)) EXPECT_TRUE(FilesWith(trace).empty());
  EXPECT_TRUE(IsServed(store(), *MakeCache("other")));
}

TEST_F(ErasureTest, WhatAnOpenViewStillReadsIsToldWithItsFile) {
  const std::string secret = TextOf("secret", 1);
  const DocumentId id = AddDocument("secret", secret);
  AddDocument("other", TextOf("other", 2));
  {
    const ReadView view = database_->Read();
    const Status status = Erase(id).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_NE(status.message().find("1 document deleted, but"), std::string::npos) << status;
    EXPECT_NE(status.message().find(directory_ / "kb/rocksdb/"), std::string::npos) << status;
    EXPECT_NE(status.message().find("COMPACT DATABASE"), std::string::npos) << status;
    EXPECT_TRUE(view.GetDocument(id).ok());
  }
  EXPECT_EQ(database_->Read().GetDocument(id).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(database_->Compact().ok());
  for (const std::string& trace : TracesOf("secret", secret)) EXPECT_TRUE(FilesWith(trace).empty());
}

TEST_F(ErasureTest, ACopyInTheDirectoryIsToldWithItsFile) {
  const std::string secret = TextOf("secret", 1);
  const DocumentId id = AddDocument("secret", secret);
  const std::string copy = directory_ / "kb/notes.txt";
  // One byte before, so that no piece is where it was.
  WriteFile(copy, "x" + secret.substr(100, 31));
  const Status status = Erase(id).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find("file=" + copy), std::string::npos) << status;
  EXPECT_EQ(FilesWith(secret.substr(100, 31)), std::vector<std::string>{copy});
}

TEST_F(ErasureTest, CopiesOfCachesAreNoticedToo) {
  const DocumentId id = AddDocument("secret", TextOf("secret", 1));
  const std::string copy = directory_ / "kb/kv/old.bin";
  WriteFile(copy, MakeCache("secret")->payloads[2]);
  const Status status = Erase(id).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find("file=" + copy), std::string::npos) << status;
}

TEST_F(ErasureTest, WhatOtherDocumentsSayTooIsLeft) {
  const std::string shared = TextOf("imprint", 7);
  const std::string secret = TextOf("secret", 1);
  const DocumentId first = AddDocument("first", shared + secret);
  AddDocument("second", "before it. " + shared + "behind it.");
  const DocumentId same = AddDocument("third", shared + secret);
  // The third has the same text, so nothing but the cache can be told apart.
  const EraseReport report = Must(Erase(first));
  EXPECT_GT(report.num_shared, report.num_pieces);
  EXPECT_FALSE(FilesWith(secret.substr(0, 60)).empty());
  EXPECT_GT(Must(Erase(same)).num_pieces, 100);
  EXPECT_TRUE(FilesWith(secret.substr(0, 60)).empty());
  EXPECT_FALSE(FilesWith(shared.substr(100, 40)).empty());
}

TEST_F(ErasureTest, EqualCachesOfOthersAreNoTrace) {
  const DocumentId id = AddDocument("secret", TextOf("secret", 1));
  // The same bytes for another owner, under another identity.
  SampleCache twin("secret", kNumLayers, kLayerBytes);
  twin.identity = DigestOf("twin");
  PutCache(database_.get(), twin, {});
  EXPECT_EQ(Must(Erase(id)).num_documents, 1);
  EXPECT_TRUE(IsServed(store(), twin));
}

TEST_F(ErasureTest, CancelledOrRefusedNothingIsDeleted) {
  const DocumentId id = AddDocument("secret", TextOf("secret", 1));
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(Erase(id, &cancel).status().code(), StatusCode::kCancelled);
  EXPECT_TRUE(database_->Read().GetDocument(id).ok());
  options_.access = AccessMode::kReadOnly;
  Open();
  EXPECT_EQ(Erase(id).status().code(), StatusCode::kUnsupported);
  EXPECT_TRUE(database_->Read().GetDocument(id).ok());
}

}  // namespace
}  // namespace intarsia::storage
