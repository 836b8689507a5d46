// What it costs to index words with their documents, and to search for them in a database on disk.
//
// Texts have words as common and as rare as those of a language (Zipf); questions are runs of words
// out of them, so they hold common words too. Blocks of the database are in memory and one thread
// works, so all times are processor times of that thread, which a busy machine changes little. The
// argument is the number of chunks; 1,000,000 take minutes to load, so they
// are measured only where INTARSIA_BENCH_LARGE is set.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
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
constexpr int64_t kHits = 10;

// Of this thread.
double ProcessorSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A database with `num_chunks` chunks, which is removed at the end.
class Collection {
 public:
  Collection(int64_t num_chunks, const storage::ChunkIndexer* indexer)
      : path_(std::filesystem::temp_directory_path() /
              ("text_index_bench_" + std::to_string(getpid()) + "_" + std::to_string(num_chunks) +
               (indexer == nullptr ? "_plain" : ""))),
        random_(1, kWords) {
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
      document.text += random_.Text(kWordsPerChunk);
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

  const std::filesystem::path path_;
  RandomText random_;
  std::unique_ptr<storage::Database> database_;
  storage::CollectionId id_ = 0;
  std::vector<std::string> queries_;
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
    if (!found.ok() || found->hits.empty()) std::abort();
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
