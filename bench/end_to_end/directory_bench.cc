// directory_bench: what a large directory costs to fill, to open, to back up and to restore.
//
// Fills a directory with made-up documents of ten chunks each, their vectors, and KV caches of one
// small layer each, and says how many bytes were written for each byte that was handed in
// (write_bytes of /proc/self/io: what was sent to the file system, by log, tables, compaction and
// segments together). Then it is opened, with its files in the page cache and without, and what the
// first search needs is made or read. Then it is backed up, backed up again on top of that, and
// restored, each beside `cp -r` of the same directory, without and with `sync` of what was copied
// (backups sync every file). Rounds take turns; the best of each counts.
// A program and not a Google Benchmark, because its cases share a directory.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/end_to_end/require.h"
#include "bench/storage/page_cache.h"
#include "engine/retriever.h"
#include "query/parser.h"
#include "storage/database.h"

namespace intarsia::bench {
namespace {

constexpr int64_t kChunksPerDocument = 10;
constexpr int64_t kDocumentsPerBatch = 200;
constexpr int64_t kKvLayerBytes = 4'096;

struct Arguments {
  int64_t num_chunks = 200'000;
  int64_t num_caches = 20'000;
  int64_t chunk_bytes = 600;
  int64_t dim = 384;
  int num_rounds = 3;
  std::vector<std::string> parts = {"open", "copy"};
  std::string directory;
};

// Bytes that this process has sent to the file system.
int64_t BytesWritten() {
  std::ifstream file("/proc/self/io");
  std::string name;
  for (int64_t value = 0; file >> name >> value;) {
    if (name == "write_bytes:") return value;
  }
  return 0;
}

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

class DirectoryBench {
 public:
  explicit DirectoryBench(const Arguments& arguments)
      : arguments_(arguments), scratch_(Require(ScratchDirectory::Create(arguments.directory))) {
    options_.kv_bytes_max = int64_t{1} << 40;
  }

  void Run() {
    Fill();
    const auto has = [this](const char* part) {
      return std::ranges::find(arguments_.parts, part) != arguments_.parts.end();
    };
    if (has("open")) OpenAndPrepare();
    if (has("copy")) Copies();
  }

 private:
  std::string path() const { return scratch_.path() + "/kb"; }
  std::string Beside(const std::string& name) const { return scratch_.path() + "/" + name; }
  std::unique_ptr<storage::Database> Open() const {
    return Require(storage::Database::Open(path(), options_));
  }

  storage::NewDocument DocumentOf(int64_t number) {
    storage::NewDocument document;
    document.source = "folder/document-" + std::to_string(number) + ".txt";
    document.title = "Document " + std::to_string(number);
    document.media_type = "text/plain";
    document.metadata = {{"year", storage::Value(int64_t{2000 + number % 25})}};
    document.chunker = "fixed(128)";
    for (int64_t i = 0; i < kChunksPerDocument; ++i) {
      const auto seed = static_cast<uint64_t>(number * kChunksPerDocument + i);
      storage::NewChunk& chunk = document.chunks.emplace_back();
      chunk.byte_begin = std::ssize(document.text);
      // Words of a vocabulary of a few thousand.
      for (uint64_t word = 0; std::ssize(document.text) < chunk.byte_begin + arguments_.chunk_bytes;
           ++word) {
        document.text += "w" + std::to_string(Mix(seed * 1'000 + word) % 4'000) + " ";
      }
      chunk.byte_end = std::ssize(document.text);
      storage::Embedding& vector = chunk.vectors.emplace_back();
      vector.model = model_;
      for (int64_t d = 0; d < arguments_.dim; ++d) {
        const auto random = static_cast<double>(Mix(seed * 4'099 + static_cast<uint64_t>(d)) >> 40);
        vector.values.push_back(static_cast<float>(random / (1 << 23) - 1.0));
      }
      num_bytes_in_ += arguments_.dim * int64_t{sizeof(float)};
    }
    num_bytes_in_ += std::ssize(document.text);
    return document;
  }

  void Fill() {
    const int64_t before = BytesWritten();
    const Stopwatch stopwatch;
    auto database = Open();
    model_ = Require(database->CreateModel({.name = "embedder",
                                            .type = storage::ModelType::kEmbedding,
                                            .path = "",
                                            .weights_digest = {},
                                            .architecture = "",
                                            .parameters = {}}));
    collection_.name = "docs";
    collection_.columns = {{.name = "year", .type = storage::ValueType::kInt}};
    collection_.id = Require(database->CreateCollection(collection_));
    std::vector<storage::StoredDocument> stored;
    for (int64_t number = 0; number < arguments_.num_chunks / kChunksPerDocument;) {
      std::vector<storage::NewDocument> batch;
      for (int64_t i = 0; i < kDocumentsPerBatch; ++i) batch.push_back(DocumentOf(number++));
      for (const auto& row : Require(database->PutDocuments(collection_.id, batch))) {
        stored.push_back(row);
      }
    }
    FillCaches(database->kv(), stored);
    database.reset();
    const int64_t num_bytes = BytesWritten() - before;
    int64_t num_stored = 0;
    for (const std::string& file : FilesBelow(path())) {
      num_stored += static_cast<int64_t>(std::filesystem::file_size(file));
    }
    std::printf(
        "%lld chunks of %lld bytes with vectors of %lld dimensions, %lld caches; filled in %.0f s\n"
        "bytes handed in %.0f MB, written %.0f MB (%.2f for each), in the directory %.0f MB\n",
        static_cast<long long>(std::ssize(stored) * kChunksPerDocument),
        static_cast<long long>(arguments_.chunk_bytes), static_cast<long long>(arguments_.dim),
        static_cast<long long>(arguments_.num_caches), stopwatch.seconds(),
        static_cast<double>(num_bytes_in_) / 1e6, static_cast<double>(num_bytes) / 1e6,
        static_cast<double>(num_bytes) / static_cast<double>(num_bytes_in_),
        static_cast<double>(num_stored) / 1e6);
    std::fflush(stdout);
  }

  void FillCaches(storage::KvStore* store, const std::vector<storage::StoredDocument>& stored) {
    std::string payload(static_cast<size_t>(kKvLayerBytes), '\0');
    for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(Mix(i));
    const std::vector<std::string_view> layers = {payload};
    for (int64_t i = 0; i < arguments_.num_caches; ++i) {
      const storage::StoredDocument& document =
          stored[static_cast<size_t>(i / kChunksPerDocument) % stored.size()];
      const auto chunk = static_cast<uint64_t>(i % kChunksPerDocument);
      Require(store->Put({.identity = DigestOf(std::to_string(i)),
                          .shape = {.num_layers = 1, .num_tokens = 128},
                          .layers = layers,
                          .owner = {.collection = collection_.id,
                                    .document = document.id,
                                    .chunk = document.first_chunk + chunk,
                                    .model = model_},
                          .generation = store->generation()}));
      num_bytes_in_ += kKvLayerBytes;
    }
  }

  void OpenAndPrepare() {
    constexpr double kNever = std::numeric_limits<double>::infinity();
    double first = 0.0;
    double warm = kNever;
    double cold = kNever;
    for (int round = 0; round < arguments_.num_rounds; ++round) {
      const Stopwatch stopwatch;
      auto database = Open();
      if (round == 0) first = stopwatch.seconds();
      if (round > 0) warm = std::min(warm, stopwatch.seconds());
      database.reset();
      Require(DropFromPageCache(FilesBelow(path())));
      const Stopwatch without_pages;
      database = Open();
      cold = std::min(cold, without_pages.seconds());
    }
    std::printf("opened: behind the writer %.3f s, again %.3f s, with a cold page cache %.3f s\n",
                first, std::min(warm, first), cold);
    std::fflush(stdout);
    FirstSearches();
  }

  // What the first search of an opening waits for before it compares vectors: ever, behind the next
  // opening, without pages in the page cache, and with a WHERE.
  void FirstSearches() {
    const auto database = Open();
    ThreadPool pool(0);
    for (const char* what : {"ever", "behind the next opening", "with a cold page cache"}) {
      if (std::string(what) == "with a cold page cache") {
        Require(DropFromPageCache(FilesBelow(path())));
      }
      engine::Retriever retriever(database.get(), &pool, FileSystem::Local(), {},
                                  engine::LocalDevices());
      const Stopwatch stopwatch;
      Require(retriever.Prepare(collection_, model_));
      const double seconds = stopwatch.seconds();
      const auto report = Require(retriever.Describe(collection_, model_));
      std::printf("first search %s: indexes %.2f s; in memory %.1f bytes a chunk, in files %.1f\n",
                  what, seconds, BytesAChunk(report.vector_bytes + report.row_bytes, report),
                  BytesAChunk(report.file_bytes, report));
      std::fflush(stdout);
    }
    engine::Retriever retriever(database.get(), &pool, FileSystem::Local(), {},
                                engine::LocalDevices());
    Require(retriever.Prepare(collection_, model_));
    // A column of documents, and one of their chunks.
    for (const char* where : {"year = 2003", "year = 2003", "chunk_no = 3"}) {
      auto statement = query::ParseStatement("DELETE FROM docs WHERE " + std::string(where));
      if (!statement.ok()) Require(Status(StatusCode::kInvalidArgument, "no WHERE"));
      const query::Delete& deletion = std::get<query::Delete>(*statement);
      const Stopwatch stopwatch;
      const auto matches = retriever.Match(collection_, deletion.where, nullptr);
      if (!matches.ok()) Require(Status(StatusCode::kInvalidArgument, "WHERE failed"));
      std::printf("behind an opening, WHERE %s: %.3f s, %lld chunks pass\n", where,
                  stopwatch.seconds(), static_cast<long long>(std::ssize(matches->chunks)));
      std::fflush(stdout);
    }
  }
  static double BytesAChunk(int64_t num_bytes, const engine::IndexReport& report) {
    return static_cast<double>(num_bytes) /
           static_cast<double>(std::max<int64_t>(1, report.num_chunks));
  }

  void System(const std::string& command) const {
    if (std::system(command.c_str()) != 0) Require(Status(StatusCode::kIo, "failed: " + command));
  }

  struct Case {
    std::string name;
    std::string target;
    std::function<void(const std::string& target)> body;
    double seconds = std::numeric_limits<double>::infinity();
  };

  void Copies() {
    const auto database = Open();
    int64_t num_bytes = 0;
    const auto back_up = [&](const std::string& target, const std::string& base) {
      storage::BackupOptions options;
      options.base = base;
      num_bytes = Require(database->BackUp(target, options)).num_bytes;
    };
    const std::string base = Beside("base");
    back_up(base, "");
    std::vector<Case> cases = {
        {"cp -r", Beside("cp"), [&](const auto& to) { System("cp -r " + base + " " + to); }},
        {"cp -r, and each file synced", Beside("cp-synced"),
         [&](const auto& to) {
           System("cp -r " + base + " " + to + " && find " + to + " -type f -exec sync {} +");
         }},
        {"backup", Beside("backup"), [&](const auto& to) { back_up(to, ""); }},
        {"backup with a base", Beside("next"), [&](const auto& to) { back_up(to, base); }},
        {"check of a backup", Beside("none"),
         [&](const auto&) { Require(storage::CheckBackup(base, {})); }},
        {"restore", Beside("restored"),
         [&](const auto& to) { Require(storage::RestoreBackup(base, to, {})); }},
    };
    for (int round = 0; round < arguments_.num_rounds; ++round) {
      for (Case& next : cases) {
        const Stopwatch stopwatch;
        next.body(next.target);
        next.seconds = std::min(next.seconds, stopwatch.seconds());
        std::filesystem::remove_all(next.target);
      }
    }
    std::printf(
        "\n| %.0f MB, page cache warm | s | GB/s | speed / cp -r synced |\n|---|---|---|---|\n",
        static_cast<double>(num_bytes) / 1e6);
    for (const Case& row : cases) {
      std::printf("| %s | %.2f | %.2f | %.2f |\n", row.name.c_str(), row.seconds,
                  static_cast<double>(num_bytes) / row.seconds / 1e9,
                  cases[1].seconds / row.seconds);
    }
  }

  const Arguments arguments_;
  const ScratchDirectory scratch_;
  storage::DatabaseOptions options_;
  storage::ModelId model_ = 0;
  storage::CollectionInfo collection_;
  int64_t num_bytes_in_ = 0;
};

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What a large directory costs to fill, to open, to back up and to restore");
  app.add_option("--chunks", arguments.num_chunks)->check(CLI::Range(2'000, 100'000'000));
  app.add_option("--caches", arguments.num_caches)->check(CLI::Range(0, 100'000'000));
  app.add_option("--chunk-bytes", arguments.chunk_bytes)->check(CLI::Range(10, 100'000));
  app.add_option("--dim", arguments.dim)->check(CLI::Range(1, 8'192));
  app.add_option("--rounds", arguments.num_rounds)->check(CLI::Range(1, 100));
  app.add_option("--parts", arguments.parts, "behind filling: open, copy")
      ->delimiter(',')
      ->check(CLI::IsMember({"open", "copy"}));
  app.add_option("--directory", arguments.directory, "where the files go for the run");
  CLI11_PARSE(app, argc, argv);
  try {
    DirectoryBench(arguments).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "directory_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) { return intarsia::bench::Main(argc, argv); }
