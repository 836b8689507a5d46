// What it costs to index words with their documents, and to search for them in a database on disk.
//
// Texts have words as common and as rare as those of a language (Zipf); questions are runs of words
// out of them, so they hold common words too. Blocks of the database are in memory and one thread
// works, so all times are processor times of that thread, which a busy machine changes little. The
// argument is the number of chunks; 1,000,000 take minutes to load, so they are measured only where
// INTARSIA_BENCH_LARGE is set.
//
// INTARSIA_BENCH_PASSAGES names a file of real texts instead, one passage a line, as
// tools/embed_passages.py leaves them; its last INTARSIA_BENCH_QUESTIONS lines are the questions. A
// chunk is then a mix of passages, chosen at random with a fixed seed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <unistd.h>

#include "engine/text_indexer.h"
#include "index/text_search.h"
#include "storage/database.h"
#include "tests/index/random_text.h"

namespace intarsia::index {
namespace {

constexpr int kWords = 200'000;
constexpr int kWordsPerChunk = 120;
constexpr int64_t kChunksPerDocument = 8;
constexpr int64_t kDocumentsPerCommit = 128;
// Of a collection that is loaded to be searched, and not to see how long loading takes.
constexpr int64_t kLargeChunks = 1'000'000;
constexpr int64_t kDocumentsPerLargeCommit = 2'048;
constexpr int64_t kNumQueries = 400;
constexpr int64_t kPassagesPerChunk = 8;
constexpr int64_t kHits = 10;

// Of this thread.
double ProcessorSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Real passages and questions, or none of either.
struct Passages {
  std::vector<std::string> lines;
  std::vector<std::string> questions;
};

const Passages& ReadPassages() {
  static const Passages passages = [] {
    Passages read;
    const char* const path = std::getenv("INTARSIA_BENCH_PASSAGES");
    if (path == nullptr) return read;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) read.lines.push_back(std::move(line));
    const char* const text = std::getenv("INTARSIA_BENCH_QUESTIONS");
    const int64_t count = text == nullptr ? 0 : std::atoll(text);
    if (count < 1 || count >= std::ssize(read.lines)) {
      std::fprintf(stderr,
                   "text_index_bench: want INTARSIA_BENCH_QUESTIONS of the %zu lines of %s\n",
                   read.lines.size(), path);
      std::exit(1);
    }
    const auto split = read.lines.end() - count;
    // As many as there are of the other kind, from all of them.
    for (int64_t i = 0; i < std::min(count, kNumQueries); ++i) {
      read.questions.push_back(split[i * count / std::min(count, kNumQueries)]);
    }
    read.lines.erase(split, read.lines.end());
    return read;
  }();
  return passages;
}

// A database with `num_chunks` chunks, which is removed at the end.
class Collection {
 public:
  Collection(int64_t num_chunks, const storage::ChunkIndexer* indexer)
      : path_(std::filesystem::temp_directory_path() /
              ("text_index_bench_" + std::to_string(getpid()) + "_" + std::to_string(num_chunks) +
               (indexer == nullptr ? "_plain" : ""))),
        passages_(ReadPassages()),
        random_(1, kWords),
        queries_(passages_.questions) {
    storage::DatabaseOptions options;
    options.chunk_indexer = indexer;
    options.block_cache_bytes_max = int64_t{4} << 30;
    database_ = *storage::Database::Open(path_, options);
    storage::CollectionInfo info;
    info.name = "bench";
    id_ = *database_->CreateCollection(info);
    int64_t number = 0;
    while (number < num_chunks) {
      std::vector<storage::NewDocument> batch;
      while (number < num_chunks &&
             std::ssize(batch) <
                 (num_chunks < kLargeChunks ? kDocumentsPerCommit : kDocumentsPerLargeCommit)) {
        batch.push_back(NextDocument(&number));
      }
      const double begin = ProcessorSeconds();
      if (!database_->PutDocuments(id_, batch).ok()) std::abort();
      load_seconds_ += ProcessorSeconds() - begin;
    }
  }
  ~Collection() {
    database_.reset();
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Collection(const Collection&) = delete;
  Collection& operator=(const Collection&) = delete;

  storage::ReadView Read() const { return database_->Read(); }
  storage::CollectionId id() const { return id_; }
  double load_seconds() const { return load_seconds_; }
  const std::vector<std::string>& queries() const { return queries_; }
  int64_t DiskBytes() const {
    database_->Compact().status().IgnoreError();  // Only the figure would be larger.
    int64_t sum = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) sum += static_cast<int64_t>(entry.file_size());
    }
    return sum;
  }

 private:
  storage::NewDocument NextDocument(int64_t* number) {
    storage::NewDocument document;
    document.source = "d" + std::to_string(*number);
    document.media_type = "text/plain";
    for (int64_t i = 0; i < kChunksPerDocument; ++i, ++*number) {
      storage::NewChunk& chunk = document.chunks.emplace_back();
      chunk.byte_begin = std::ssize(document.text);
      document.text += ChunkText();
      chunk.byte_end = std::ssize(document.text);
      document.text += "\n";
    }
    if (std::ssize(queries_) < kNumQueries) {
      // Three to eight words from somewhere in the text.
      size_t begin = document.text.find(' ', static_cast<size_t>(random_.Below(4'000)));
      size_t end = begin;
      for (int64_t words = 3 + random_.Below(6); words > 0; --words) {
        end = document.text.find_first_of(" \n", end + 1);
      }
      queries_.push_back(document.text.substr(begin, end - begin));
    }
    return document;
  }

  std::string ChunkText() {
    if (passages_.lines.empty()) return random_.Text(kWordsPerChunk);
    std::string text;
    for (int64_t i = 0; i < kPassagesPerChunk; ++i) {
      const int64_t line = random_.Below(std::ssize(passages_.lines));
      text += passages_.lines[static_cast<size_t>(line)] + " ";
    }
    return text;
  }

  const std::filesystem::path path_;
  const Passages& passages_;
  RandomText random_;
  std::vector<std::string> queries_;
  std::unique_ptr<storage::Database> database_;
  storage::CollectionId id_ = 0;
  double load_seconds_ = 0.0;
};

const Collection& CollectionOf(int64_t num_chunks) {
  using Collections = std::map<int64_t, std::unique_ptr<Collection>>;
  static const engine::TextIndexer indexer;
  const auto add = [&](Collections* collections) {
    std::unique_ptr<Collection>& collection = (*collections)[num_chunks];
    if (collection == nullptr) collection = std::make_unique<Collection>(num_chunks, &indexer);
  };
  // Made behind what RocksDB makes when it is first used, so that it goes before that.
  static Collections collections = [&] {
    Collections first;
    add(&first);
    return first;
  }();
  add(&collections);
  return *collections.at(num_chunks);
}

// Documents without vectors, with and without an index of their words.
void BM_TextIndex_Load(benchmark::State& state) {
  const Collection& indexed = CollectionOf(state.range(0));
  const Collection plain(state.range(0), nullptr);
  for (auto _ : state) state.SetIterationTime(indexed.load_seconds());
  const auto num_chunks = static_cast<double>(state.range(0));
  state.counters["chunks_per_s"] = num_chunks / indexed.load_seconds();
  state.counters["plain_chunks_per_s"] = num_chunks / plain.load_seconds();
  state.counters["index_bytes_per_chunk"] =
      static_cast<double>(indexed.DiskBytes() - plain.DiskBytes()) / num_chunks;
}

void BM_TextIndex_Search(benchmark::State& state) {
  const Collection& collection = CollectionOf(state.range(0));
  const TextScan scan = state.range(1) == 0 ? TextScan::kBlockMax : TextScan::kExhaustive;
  const auto analyzer = *TextAnalyzer::Create("english");
  const storage::ReadView view = collection.Read();
  const auto rows = view.Postings(collection.id());
  std::vector<double> milliseconds;
  int64_t num_scored = 0;
  const auto search = [&](const std::string& text) {
    const TextQuery query = ParseTextQuery(text, TextSyntax::kWords, analyzer.get());
    const auto found = SearchText(*rows, {.query = &query, .k = kHits, .scan = scan});
    if (!found.ok()) std::abort();
    num_scored += found->num_scored;
  };
  for (const std::string& text : collection.queries()) search(text);  // Fills the block cache.
  num_scored = 0;
  for (auto _ : state) {
    double seconds = 0.0;
    for (const std::string& text : collection.queries()) {
      const double begin = ProcessorSeconds();
      search(text);
      milliseconds.push_back(1e3 * (ProcessorSeconds() - begin));
      seconds += milliseconds.back() / 1e3;
    }
    state.SetIterationTime(seconds);
  }
  std::ranges::sort(milliseconds);
  const size_t count = milliseconds.size();
  state.counters["p50_ms"] = milliseconds[count / 2];
  state.counters["p99_ms"] = milliseconds[count * 99 / 100];
  state.counters["most_ms"] = milliseconds.back();
  state.counters["chunks_per_s"] = static_cast<double>(state.range(0)) / collection.load_seconds();
  state.counters["scored_per_query"] = static_cast<double>(num_scored) / static_cast<double>(count);
}

void Sizes(benchmark::internal::Benchmark* bench, const std::vector<int64_t>& rest) {
  std::vector<int64_t> sizes = {10'000, 50'000};
  if (std::getenv("INTARSIA_BENCH_LARGE") != nullptr) sizes.push_back(kLargeChunks);
  for (const int64_t size : sizes) {
    for (const int64_t value : rest) bench->Args({size, value});
  }
  bench->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(BM_TextIndex_Load)->Iterations(1)->Apply([](benchmark::internal::Benchmark* bench) {
  bench->Args({10'000, 0})->UseManualTime()->Unit(benchmark::kMillisecond);
});
// The second argument: 0 by blocks, 1 every posting.
BENCHMARK(BM_TextIndex_Search)->Iterations(3)->Apply([](benchmark::internal::Benchmark* bench) {
  Sizes(bench, {0, 1});
});

}  // namespace
}  // namespace intarsia::index
