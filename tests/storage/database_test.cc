#include "storage/database.h"

#include <array>
#include <filesystem>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "storage/directory_format.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

DatabaseOptions ReadOnly() { return {.access = AccessMode::kReadOnly}; }

// Names, sizes and times of everything below a directory.
std::set<std::string> Inventory(const std::string& path) {
  std::set<std::string> rows;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    const auto time = entry.last_write_time().time_since_epoch().count();
    const auto size = entry.is_regular_file() ? entry.file_size() : 0;
    rows.insert(entry.path().string() + " " + std::to_string(size) + " " + std::to_string(time));
  }
  return rows;
}

TEST(DatabaseTest, ReopenFindsCatalogAndUuid) {
  const TemporaryDirectory directory;
  std::array<uint8_t, 16> uuid{};
  ModelId model = 0;
  {
    const auto database = OpenDatabase(directory / "kb");
    uuid = database->uuid();
    model = Must(database->CreateModel(SampleModel("e5", ModelType::kEmbedding)));
    Must(database->CreateCollection(SampleCollection("docs")));
    Must(database->PutSetting("default.embedding", "e5"));
  }
  const auto database = OpenDatabase(directory / "kb/");
  EXPECT_EQ(database->uuid(), uuid);
  EXPECT_NE(uuid, OpenDatabase(directory / "other")->uuid());
  const ReadView view = database->Read();
  ModelInfo want = SampleModel("e5", ModelType::kEmbedding);
  want.id = model;
  EXPECT_EQ(Must(view.FindModel("e5")), want);
  CollectionInfo collection = SampleCollection("docs");
  collection.id = 1;
  EXPECT_EQ(Must(view.FindCollection("docs")), collection);
  EXPECT_EQ(Must(view.GetSetting("default.embedding")), "e5");
  EXPECT_EQ(Must(view.ListSettings()), (Options{{"default.embedding", "e5"}}));
}

TEST(DatabaseTest, NamesAreUniqueAndIdsAreNeverReused) {
  const TemporaryDirectory directory;
  auto database = OpenDatabase(directory / "kb");
  const ModelId first = Must(database->CreateModel(SampleModel("qa", ModelType::kGenerate)));
  EXPECT_EQ(database->CreateModel(SampleModel("qa", ModelType::kEmbedding)).status().code(),
            StatusCode::kAlreadyExists);
  Must(database->DropModel(first));
  EXPECT_EQ(database->DropModel(first).code(), StatusCode::kNotFound);
  database.reset();
  database = OpenDatabase(directory / "kb");
  const ModelId second = Must(database->CreateModel(SampleModel("qa", ModelType::kGenerate)));
  EXPECT_GT(second, first);
  const CollectionId docs = Must(database->CreateCollection(SampleCollection("docs")));
  EXPECT_EQ(database->CreateCollection(SampleCollection("docs")).status().code(),
            StatusCode::kAlreadyExists);
  Must(database->DropCollection(docs));
  EXPECT_EQ(database->Read().FindCollection("docs").status().code(), StatusCode::kNotFound);
  EXPECT_GT(Must(database->CreateCollection(SampleCollection("docs"))), docs);
}

TEST(DatabaseTest, UpdateRenamesAndRefusesTakenNames) {
  const TemporaryDirectory directory;
  const auto database = OpenDatabase(directory / "kb");
  ModelInfo model = SampleModel("a", ModelType::kGenerate);
  model.id = Must(database->CreateModel(model));
  Must(database->CreateModel(SampleModel("b", ModelType::kGenerate)));
  model.name = "b";
  EXPECT_EQ(database->UpdateModel(model).code(), StatusCode::kAlreadyExists);
  model.name = "c";
  model.parameters["gate"] = "passed";
  Must(database->UpdateModel(model));
  EXPECT_EQ(Must(database->Read().FindModel("c")), model);
  EXPECT_EQ(database->Read().FindModel("a").status().code(), StatusCode::kNotFound);
  model.id = 77;
  EXPECT_EQ(database->UpdateModel(model).code(), StatusCode::kNotFound);

  CollectionInfo collection = SampleCollection("docs");
  collection.id = Must(database->CreateCollection(collection));
  const uint64_t generation = Must(database->Read().GetStats(collection.id)).generation;
  collection.name = "papers";
  Must(database->UpdateCollection(collection));
  EXPECT_EQ(Must(database->Read().FindCollection("papers")), collection);
  EXPECT_GT(Must(database->Read().GetStats(collection.id)).generation, generation);
}

TEST(DatabaseTest, BadCatalogEntriesAreRefused) {
  const TemporaryDirectory directory;
  const auto database = OpenDatabase(directory / "kb");
  EXPECT_EQ(database->CreateModel(SampleModel("", ModelType::kGenerate)).status().code(),
            StatusCode::kInvalidArgument);
  CollectionInfo twice = SampleCollection("docs");
  twice.columns.push_back(twice.columns.front());
  EXPECT_EQ(database->CreateCollection(twice).status().code(), StatusCode::kInvalidArgument);
  CollectionInfo null_column = SampleCollection("docs");
  null_column.columns.front().type = ValueType::kNull;
  EXPECT_EQ(database->CreateCollection(null_column).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Must(database->Read().ListCollections()).empty());
}

TEST(DatabaseTest, SecondWriterInTheSameProcessIsRefused) {
  const TemporaryDirectory directory;
  const auto database = OpenDatabase(directory / "kb");
  EXPECT_EQ(Database::Open(directory / "kb", {}).status().code(), StatusCode::kUnavailable);
}

TEST(DatabaseTest, ReaderOpensBesideAWriterAndChangesNothing) {
  const TemporaryDirectory directory;
  const auto writer = OpenDatabase(directory / "kb");
  const CollectionId docs = Must(writer->CreateCollection(SampleCollection("docs")));
  PutOne(writer.get(), docs, SampleDocument("a", "some text of mine", 0));
  const SampleCache cache("cache", 2, 5000);
  PutCache(writer.get(), cache, {.collection = docs});

  const std::set<std::string> before = Inventory(directory / "kb");
  {
    const auto reader = OpenDatabase(directory / "kb", ReadOnly());
    EXPECT_EQ(Must(reader->Read().GetDocumentBySource(docs, "a")).title, "Title of a");
    EXPECT_TRUE(IsServed(reader->kv(), cache));
    EXPECT_EQ(reader->DropCollection(docs).code(), StatusCode::kUnsupported);
    EXPECT_EQ(reader->PutDocuments(docs, {}).status().code(), StatusCode::kUnsupported);
    EXPECT_EQ(reader->DeleteDocuments({}).status().code(), StatusCode::kUnsupported);
    EXPECT_EQ(reader->kv()->DeleteAll().status().code(), StatusCode::kUnsupported);
    EXPECT_EQ(reader->kv()->Put(cache.Put({}, 0)).status().code(), StatusCode::kUnsupported);
  }
  EXPECT_EQ(Inventory(directory / "kb"), before);
}

TEST(DatabaseTest, ReadOnlyOpenOfNothingIsNotFound) {
  const TemporaryDirectory directory;
  EXPECT_EQ(Database::Open(directory / "kb", ReadOnly()).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(directory / "kb"));
}

TEST(DatabaseTest, NewerFormatIsRefusedAndLeftAlone) {
  const TemporaryDirectory directory;
  OpenDatabase(directory / "kb");
  DirectoryFormat format = NewDirectoryFormat();
  format.version = kFormatVersion + 1;
  WriteFile(directory / "kb/FORMAT", EncodeDirectoryFormat(format) + "more fields");
  const std::set<std::string> before = Inventory(directory / "kb");
  const Status status = Database::Open(directory / "kb", {}).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.message().find("newer program"), std::string_view::npos);
  EXPECT_EQ(Inventory(directory / "kb"), before);
}

TEST(DatabaseTest, ForeignDirectoryIsRefusedAndLeftAlone) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "home");
  WriteFile(directory / "home/letter.txt", "dear");
  EXPECT_EQ(Database::Open(directory / "home", {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(directory / "home/LOCK"));
  EXPECT_EQ(Database::Open(directory / "home/letter.txt", {}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Database::Open("", {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(DatabaseTest, InterruptedCreationIsResumed) {
  const TemporaryDirectory directory;
  std::array<uint8_t, 16> uuid{};
  {
    const auto database = OpenDatabase(directory / "kb");
    uuid = database->uuid();
  }
  std::filesystem::remove(directory / "kb/FORMAT");
  EXPECT_EQ(Database::Open(directory / "kb", ReadOnly()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(OpenDatabase(directory / "kb")->uuid(), uuid);
}

TEST(DatabaseTest, MissingRocksDirectoryIsNotAnEmptyDatabase) {
  const TemporaryDirectory directory;
  OpenDatabase(directory / "kb");
  std::filesystem::remove_all(directory / "kb/rocksdb");
  EXPECT_FALSE(Database::Open(directory / "kb", {}).ok());
}

TEST(DatabaseTest, FormatOfAnotherDatabaseIsCorruption) {
  const TemporaryDirectory directory;
  OpenDatabase(directory / "kb");
  WriteFile(directory / "kb/FORMAT", EncodeDirectoryFormat(NewDirectoryFormat()));
  EXPECT_EQ(Database::Open(directory / "kb", {}).status().code(), StatusCode::kCorruption);
}

TEST(DatabaseTest, ADamagedFormatIsMadeAnew) {
  const TemporaryDirectory directory;
  std::array<uint8_t, 16> uuid{};
  {
    const auto database = OpenDatabase(directory / "kb");
    uuid = database->uuid();
  }
  const std::string whole = ReadFile(directory / "kb/FORMAT");
  // In the magic, in the version, which then looks like a newer one, in the uuid and the checksum.
  for (const int64_t byte : {0, 9, 20, 40}) {
    SCOPED_TRACE(byte);
    FlipBit(directory / "kb/FORMAT", 8 * byte + 3);
    EXPECT_EQ(OpenDatabase(directory / "kb", ReadOnly())->uuid(), uuid);
    EXPECT_NE(ReadFile(directory / "kb/FORMAT"), whole);
    EXPECT_EQ(OpenDatabase(directory / "kb")->uuid(), uuid);
    EXPECT_EQ(ReadFile(directory / "kb/FORMAT"), whole);
  }
  WriteFile(directory / "kb/FORMAT", "");
  EXPECT_EQ(OpenDatabase(directory / "kb")->uuid(), uuid);
}

TEST(DatabaseTest, ADamagedCurrentIsMadeAnew) {
  const TemporaryDirectory directory;
  const std::string current = directory / "kb/rocksdb/CURRENT";
  OpenDatabase(directory / "kb");
  for (const std::string bytes :
       {"", "MANIFEST-00000", "MANIFEST-999999\n", "../../etc/passwd\n"}) {
    SCOPED_TRACE(bytes);
    WriteFile(current, bytes);
    const Status status = Database::Open(directory / "kb", ReadOnly()).status();
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << status;
    EXPECT_NE(status.message().find("restore a backup"), std::string_view::npos) << status;
    EXPECT_TRUE(OpenDatabase(directory / "kb")->Read().ListModels().ok());
  }
}

TEST(DatabaseTest, WithTwoListsADamagedCurrentIsRefused) {
  const TemporaryDirectory directory;
  OpenDatabase(directory / "kb");
  WriteFile(directory / "kb/rocksdb/CURRENT", "MANIFEST-999999\n");
  WriteFile(directory / "kb/rocksdb/MANIFEST-777777", "another one");
  const Status status = Database::Open(directory / "kb", {}).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption) << status;
  EXPECT_NE(status.message().find("restore a backup"), std::string_view::npos) << status;
}

TEST(DatabaseTest, BadOptionsAreRefused) {
  const TemporaryDirectory directory;
  EXPECT_EQ(Database::Open(directory / "kb", {.kv_bytes_max = -1}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(directory / "kb"));
}

TEST(DatabaseTest, AReaderOpensBesideAWriterThatHasSeveralLogs) {
  TemporaryDirectory folder;
  const auto writer = OpenDatabase(folder / "kb");
  const CollectionId docs = Must(writer->CreateCollection(SampleCollection("docs")));
  // More than RocksDB keeps in memory for the texts, while the other rows stay there.
  const std::string text(3 << 20, 'x');
  for (int i = 0; i < 12; ++i) {
    NewDocument document;
    document.source = std::to_string(i);
    document.text = text + document.source;
    PutOne(writer.get(), docs, document);
  }
  const auto reader = OpenDatabase(folder / "kb", {.access = AccessMode::kReadOnly});
  EXPECT_EQ(Must(reader->Read().GetStats(docs)).num_documents, 12);
}

}  // namespace
}  // namespace intarsia::storage
