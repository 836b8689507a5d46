// vector_search_bench: searches of real embeddings by the exact scan, the binary scan and the
// graph, without and with filters.
//
// Reads vectors from a .npy file of float32 [count, dim]; the last `--queries` of them are queries
// and not searched. Settings of the binary scan come from calibration, as in the engine. Recall is
// that of the ten nearest against the exact scan. Times are medians over the queries on one thread,
// and queries a second with all threads searching at once. Without a file, vectors are random and
// clustered; then the command measures time and memory, and its recall says little.
// The binary scan runs twice: with the vectors in memory, and with them in a mapped file as the
// engine keeps them. Of the file it is said how much memory is left without it, and how much of it
// lies in the page cache behind all queries if none of it did before (the system reads ahead).
// With --device the binary scan runs on the first CUDA device, too.
// A program and not a Google Benchmark, because its cases share what takes long to build.
// tools/compare_vector_search.py puts other libraries beside what --json writes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/storage/page_cache.h"
#include "engine/device_provider.h"
#include "index/binary_index.h"
#include "index/calibration.h"
#include "index/code_scanner.h"
#include "index/flat_index.h"
#include "index/graph_index.h"
#include "index/vector_file.h"
#include "tests/index/clustered_vectors.h"

namespace intarsia::index {
namespace {

using Json = nlohmann::json;

constexpr int64_t kHits = 10;
constexpr int64_t kSampled = 32'768;
constexpr int64_t kDrawnRows = 65'536;  // made-up vectors drawn at a time, by one thread

struct Arguments {
  std::string vectors;
  std::string json;
  std::string directory;  // of the file of vectors
  int64_t num_queries = 200;
  int64_t num_random = 100'000;  // vectors if there is no file
  int64_t dim = 384;             // of these
  int num_threads = 0;
  double recall = 0.0;  // that calibration is to reach; 0: its default
  bool has_graph = false;
  bool has_file = true;
  bool has_device = false;
  bool has_filters = true;
};

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "vector_search_bench: %s\n", why.c_str());
  std::exit(1);
}

struct Vectors {
  int64_t dim = 0;
  std::vector<float> values;
  int64_t count() const { return std::ssize(values) / dim; }
  std::span<const float> row(int64_t i) const {
    return std::span(values).subspan(static_cast<size_t>(i * dim), static_cast<size_t>(dim));
  }
};

// Reads what numpy.save writes of a C-ordered float32 array of two dimensions.
Vectors ReadNpy(const std::string& path) {
  const auto mapped = FileSystem::Local()->Map(path);
  if (!mapped.ok()) Fail(mapped.status().ToString());
  const std::string_view bytes = (*mapped)->bytes();
  if (bytes.size() < 10 || bytes.substr(1, 5) != "NUMPY") Fail(path + " is no .npy file");
  const size_t length = static_cast<uint8_t>(bytes[8]) | (static_cast<uint8_t>(bytes[9]) << 8);
  if (bytes.size() < 10 + length) Fail(path + " ends within its header");
  const std::string header(bytes.substr(10, length));
  const size_t shape = header.find("'shape': (");
  long long count = 0;
  long long dim = 0;
  if (header.find("'<f4'") == std::string::npos || shape == std::string::npos ||
      header.find("False") == std::string::npos ||
      std::sscanf(header.c_str() + shape, "'shape': (%lld, %lld)", &count, &dim) != 2 ||
      count < 1 || dim < 1 ||
      bytes.size() - 10 - length != static_cast<size_t>(count * dim) * sizeof(float)) {
    Fail(path + " holds no float32 vectors in rows");
  }
  Vectors vectors;
  vectors.dim = dim;
  vectors.values.resize(static_cast<size_t>(count * dim));
  std::memcpy(vectors.values.data(), bytes.data() + 10 + length,
              vectors.values.size() * sizeof(float));
  return vectors;
}

using Search = std::function<std::vector<SearchHit>(int64_t query, SlotFilter filter)>;

class SearchBench {
 public:
  explicit SearchBench(const Arguments& arguments)
      : arguments_(arguments), pool_(arguments.num_threads) {
    if (arguments.vectors.empty()) {
      DrawVectors();
    } else {
      ReadVectors();
    }
  }

  void Run() {
    report_["vectors"] = num_rows_;
    report_["dim"] = queries_.dim;
    report_["threads"] = pool_.num_threads();
    report_["source"] = arguments_.vectors.empty() ? "random" : arguments_.vectors;
    BuildCodes();
    if (arguments_.has_file) MapVectors();
    if (arguments_.has_graph) BuildGraph();
    if (arguments_.has_device) BringToDevice();
    SearchAll();
    if (arguments_.json.empty()) return;
    std::ofstream(arguments_.json) << report_.dump(1) << "\n";
  }

 private:
  void ReadVectors() {
    Vectors all = ReadNpy(arguments_.vectors);
    num_rows_ = all.count() - arguments_.num_queries;
    if (num_rows_ < 1'000) Fail("fewer than 1,000 vectors beside the queries");
    const auto split = all.values.begin() + static_cast<std::ptrdiff_t>(num_rows_ * all.dim);
    queries_ = {all.dim, std::vector<float>(split, all.values.end())};
    all.values.erase(split, all.values.end());
    CreateRows();
    AddRows(all.values);
  }

  // Many vectors are drawn by all threads, and never all of them twice in memory.
  void DrawVectors() {
    const int64_t dim = arguments_.dim;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const VectorClusters clusters(dim, &random, &normal);
    num_rows_ = arguments_.num_random;
    queries_ = {dim, std::vector<float>(static_cast<size_t>(arguments_.num_queries * dim))};
    clusters.Draw(queries_.values, &random, &normal);
    CreateRows();
    std::vector<std::vector<float>> drawn(static_cast<size_t>(pool_.num_threads()));
    for (int64_t begin = 0; begin < num_rows_; begin += kDrawnRows * std::ssize(drawn)) {
      pool_.ParallelFor(std::ssize(drawn), [&](int64_t i, int) {
        const int64_t first = std::min(begin + i * kDrawnRows, num_rows_);
        const int64_t count = std::min(kDrawnRows, num_rows_ - first);
        std::mt19937 own(static_cast<uint32_t>(2 + first / kDrawnRows));
        std::normal_distribution<float> own_normal;
        drawn[static_cast<size_t>(i)].resize(static_cast<size_t>(count * dim));
        clusters.Draw(drawn[static_cast<size_t>(i)], &own, &own_normal);
      });
      for (const std::vector<float>& rows : drawn) AddRows(rows);
    }
  }

  void CreateRows() {
    if (num_rows_ < 1'000) Fail("fewer than 1,000 vectors beside the queries");
    auto created = FlatIndex::Create({.dim = queries_.dim});
    if (!created.ok()) Fail(created.status().ToString());
    flat_ = *std::move(created);
    flat_->Reserve(num_rows_);
  }

  void AddRows(std::span<const float> rows) {
    std::vector<uint64_t> ids(rows.size() / static_cast<size_t>(queries_.dim));
    std::iota(ids.begin(), ids.end(), static_cast<uint64_t>(flat_->size()));
    if (const Status added = flat_->Add(ids, rows); !added.ok()) Fail(added.ToString());
  }

  void SearchAll() {
    const Search flat = [this](int64_t query, SlotFilter filter) {
      return *flat_->Search({.query = queries_.row(query), .k = kHits, .filter = filter});
    };
    const Search binary = [this](int64_t query, SlotFilter filter) {
      return codes_
          ->Search(*flat_, {.query = queries_.row(query), .k = kHits, .filter = filter}, options_)
          ->hits;
    };
    const Search mapped = [this](int64_t query, SlotFilter filter) {
      return codes_
          ->Search(*mapped_, {.query = queries_.row(query), .k = kHits, .filter = filter}, options_)
          ->hits;
    };
    if (mapped_ != nullptr) ReportMemory(mapped);
    const Search graph = [this](int64_t query, SlotFilter filter) {
      return graph_->Search({.query = queries_.row(query), .k = kHits, .filter = filter}, {})->hits;
    };
    const Search device = [this](int64_t query, SlotFilter filter) {
      BinarySearchOptions options = options_;
      options.scanner = scanner_.get();
      auto found = codes_->Search(
          *flat_, {.query = queries_.row(query), .k = kHits, .filter = filter}, options);
      if (!found.ok()) Fail(found.status().ToString());
      return std::move(found->hits);
    };
    std::printf("%lld vectors of %lld dimensions, %lld queries, %d threads\n",
                static_cast<long long>(num_rows_), static_cast<long long>(queries_.dim),
                static_cast<long long>(queries_.count()), pool_.num_threads());
    std::printf("| passes | way | recall@10 | median us | queries/s, all threads |\n");
    std::printf("|---|---|---|---|---|\n");
    std::mt19937_64 random(7);
    for (const double share : {1.0, 0.5, 0.1, 0.05 * 0.2, 0.001}) {
      if (share < 1.0 && !arguments_.has_filters) break;
      std::vector<uint64_t> filter;
      if (share < 1.0) filter = MakeFilter(share, &random);
      const std::vector<std::vector<SearchHit>> truth = Truth(flat, filter);
      Report(share, "flat scan", flat, filter, truth);
      Report(share, "binary scan", binary, filter, truth);
      if (mapped_ != nullptr) {
        Report(share, "binary scan, vectors in a file", mapped, filter, truth);
      }
      ReportBatch(share, filter, truth);
      if (graph_ != nullptr) Report(share, "graph", graph, filter, truth);
      if (scanner_ != nullptr) Report(share, "device scan", device, filter, truth);
    }
  }

  void BuildCodes() {
    const auto sample = FlatIndex::Create({.dim = queries_.dim});
    const std::vector<int64_t> rows = SampleRows(num_rows_, kSampled, 1);
    for (const int64_t row : rows) {
      const uint64_t id[] = {static_cast<uint64_t>(row)};
      (*sample)->Add(id, flat_->row(row)).IgnoreError();  // They were added once before.
    }
    const std::clock_t began = std::clock();
    const Stopwatch calibrating;
    CalibrationOptions wanted = {.num_rows = num_rows_};
    if (arguments_.recall > 0.0) wanted.recall_wanted = arguments_.recall;
    const auto calibration = Calibrate(**sample, wanted, &pool_);
    if (!calibration.ok()) Fail(calibration.status().ToString());
    const double calibrate_ms = calibrating.milliseconds();
    const CalibrationTrial& chosen = calibration->chosen;
    options_.query_bits = chosen.query_bits;
    options_.error_bound = chosen.error_bound;
    const Stopwatch building;
    auto built = BinaryIndex::Build(*flat_, {.bits = chosen.bits}, &pool_);
    if (!built.ok()) Fail(built.status().ToString());
    codes_ = *std::move(built);
    const double build_ms = building.milliseconds();
    std::printf(
        "calibration %.0f ms: bits=%d query_bits=%d error_bound=%.1f expected recall %.4f, "
        "bit entropy %.4f (least %.4f), neighbour information %.3f\n",
        calibrate_ms, chosen.bits, chosen.query_bits, static_cast<double>(chosen.error_bound),
        chosen.recall, calibration->bit_entropy_mean, calibration->bit_entropy_min,
        calibration->neighbour_information);
    std::printf("codes built in %.0f ms, %.1f bytes a vector beside the vectors\n", build_ms,
                static_cast<double>(codes_->memory_bytes()) / static_cast<double>(num_rows_));
    const auto cpu_s = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
    report_["names_bytes"] =
        flat_->memory_bytes() - num_rows_ * queries_.dim * static_cast<int64_t>(sizeof(float));
    report_["binary"] = {{"cpu_s", cpu_s},
                         {"calibrate_ms", calibrate_ms},
                         {"build_ms", build_ms},
                         {"bytes", codes_->memory_bytes()},
                         {"bits", chosen.bits},
                         {"query_bits", chosen.query_bits},
                         {"error_bound", chosen.error_bound},
                         {"expected_recall", chosen.recall}};
  }

  // The same vectors in a file, of which nothing is in the page cache but its codes and names.
  void MapVectors() {
    auto scratch = bench::ScratchDirectory::Create(arguments_.directory);
    if (!scratch.ok()) Fail(scratch.status().ToString());
    scratch_ = std::make_unique<bench::ScratchDirectory>(*std::move(scratch));
    const std::string path = scratch_->path() + "/vectors";
    auto made = FlatIndex::Create({.dim = queries_.dim});
    if (!made.ok()) Fail(made.status().ToString());
    mapped_ = *std::move(made);
    const int64_t end = num_rows_ / mapped_->page_rows() * mapped_->page_rows();
    const std::vector<uint64_t> contents(static_cast<size_t>(end), 0);
    const VectorFileParams params = {.identity = {},
                                     .rows = flat_.get(),
                                     .codes = codes_.get(),
                                     .begin = 0,
                                     .end = end,
                                     .contents = contents};
    if (const Status written = WriteVectorFile(FileSystem::Local(), path, params); !written.ok()) {
      Fail(written.ToString());
    }
    if (const Status dropped = bench::DropFromPageCache({path}); !dropped.ok()) {
      Fail(dropped.ToString());
    }
    auto opened = VectorFile::Open(FileSystem::Local(), path);
    if (!opened.ok()) Fail(opened.status().ToString());
    file_ = *std::move(opened);
    Status added = mapped_->AddForeign(file_->ids(), VectorFile::RowsOf(file_));
    for (int64_t slot = end; added.ok() && slot < num_rows_; ++slot) {
      added = mapped_->Add(flat_->ids().subspan(static_cast<size_t>(slot), 1), flat_->row(slot));
    }
    if (!added.ok()) Fail(added.ToString());
  }

  void ReportMemory(const Search& mapped) {
    const auto cached_bytes = [this] {
      const auto share = bench::ShareInPageCache({file_->path()});
      if (!share.ok()) Fail(share.status().ToString());
      return *share * static_cast<double>(file_->num_bytes());
    };
    const double before = cached_bytes();
    for (int64_t query = 0; query < queries_.count(); ++query) mapped(query, {});
    const double touched = cached_bytes() - before;
    const int64_t heap_bytes = mapped_->memory_bytes() + codes_->memory_bytes();
    std::printf(
        "vectors in a file of %.1f MB: %.1f MB of memory for ids, codes and the newest vectors, "
        "%.1f MB of vectors in the page cache behind %lld queries\n",
        static_cast<double>(file_->num_bytes()) / 1e6, static_cast<double>(heap_bytes) / 1e6,
        touched / 1e6, static_cast<long long>(queries_.count()));
    report_["file"] = {
        {"bytes", file_->num_bytes()}, {"heap_bytes", heap_bytes}, {"cached_bytes", touched}};
  }

  void BuildGraph() {
    const std::clock_t began = std::clock();
    const Stopwatch stopwatch;
    auto created = GraphIndex::Create(flat_.get(), {});
    if (!created.ok()) Fail(created.status().ToString());
    graph_ = *std::move(created);
    const Status appended = graph_->Append(num_rows_, pool_.num_threads());
    if (!appended.ok()) Fail(appended.ToString());
    const double build_ms = stopwatch.milliseconds();
    std::printf("graph built in %.0f ms, %.1f bytes a vector beside the vectors\n", build_ms,
                static_cast<double>(graph_->memory_bytes()) / static_cast<double>(num_rows_));
    const auto cpu_s = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
    report_["graph"] = {
        {"cpu_s", cpu_s}, {"build_ms", build_ms}, {"bytes", graph_->memory_bytes()}};
  }

  void BringToDevice() {
    const Stopwatch stopwatch;
    auto scanner = engine::LocalDevices()->MakeCodeScanner(0);
    if (!scanner.ok()) Fail(scanner.status().ToString());
    scanner_ = *std::move(scanner);
    constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
    const Status extended =
        scanner_->Extend(codes_->CodeBlocks(0, (num_rows_ + kBlock - 1) / kBlock), num_rows_);
    if (!extended.ok()) Fail(extended.ToString());
    const double bring_ms = stopwatch.milliseconds();
    std::printf("codes on the device in %.0f ms, %.1f bytes a vector\n", bring_ms,
                static_cast<double>(scanner_->memory_bytes()) / static_cast<double>(num_rows_));
    report_["device"] = {{"bring_ms", bring_ms}, {"bytes", scanner_->memory_bytes()}};
  }

  // Rows that two independent conditions let through, each at the square root of `share`.
  std::vector<uint64_t> MakeFilter(double share, std::mt19937_64* random) const {
    std::bernoulli_distribution passes(std::sqrt(share));
    std::vector<uint64_t> words(static_cast<size_t>((num_rows_ + 63) / 64), 0);
    for (int64_t row = 0; row < num_rows_; ++row) {
      const bool first = passes(*random);
      const bool second = passes(*random);
      if (first && second) words[static_cast<size_t>(row / 64)] |= uint64_t{1} << (row % 64);
    }
    return words;
  }

  std::vector<std::vector<SearchHit>> Truth(const Search& flat, SlotFilter filter) {
    std::vector<std::vector<SearchHit>> truth(static_cast<size_t>(queries_.count()));
    pool_.ParallelFor(queries_.count(), [&](int64_t query, int) {
      truth[static_cast<size_t>(query)] = flat(query, filter);
    });
    return truth;
  }

  void Report(double share, const std::string& name, const Search& search, SlotFilter filter,
              const std::vector<std::vector<SearchHit>>& truth) {
    std::vector<double> times;
    int64_t num_found = 0;
    int64_t num_wanted = 0;
    for (int64_t query = 0; query < queries_.count(); ++query) {
      const Stopwatch stopwatch;
      const std::vector<SearchHit> hits = search(query, filter);
      times.push_back(1e3 * stopwatch.milliseconds());
      const auto& expected = truth[static_cast<size_t>(query)];
      num_wanted += std::ssize(expected);
      for (const SearchHit& hit : hits) num_found += CountOf(expected, hit.id);
    }
    std::ranges::nth_element(times, times.begin() + std::ssize(times) / 2);
    const double median = times[times.size() / 2];
    const Stopwatch stopwatch;
    pool_.ParallelFor(queries_.count(), [&](int64_t query, int) { search(query, filter); });
    const double rate = 1e3 * static_cast<double>(queries_.count()) / stopwatch.milliseconds();
    Print(share, name, num_found, num_wanted, median, rate);
  }

  // All queries in one call of the index; per query its share of the time. On one thread that of
  // the processor: a median over calls that take long does not leave out what other programs take.
  void ReportBatch(double share, SlotFilter filter,
                   const std::vector<std::vector<SearchHit>>& truth) {
    const auto run = [&](ThreadPool* pool, double* ms) {
      const std::clock_t began = std::clock();
      const Stopwatch stopwatch;
      auto found = codes_->SearchBatch(
          *flat_, {.queries = queries_.values, .k = kHits, .filter = filter, .pool = pool},
          options_);
      if (!found.ok()) Fail(found.status().ToString());
      *ms = pool != nullptr ? stopwatch.milliseconds()
                            : 1e3 * static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
      return *std::move(found);
    };
    double one_ms = 0.0;
    double all_ms = 0.0;
    const std::vector<std::vector<SearchHit>> hits = run(nullptr, &one_ms);
    run(&pool_, &all_ms);
    int64_t num_found = 0;
    int64_t num_wanted = 0;
    for (size_t query = 0; query < truth.size(); ++query) {
      num_wanted += std::ssize(truth[query]);
      for (const SearchHit& hit : hits[query]) num_found += CountOf(truth[query], hit.id);
    }
    Print(share, "binary scan, in one batch", num_found, num_wanted,
          1e3 * one_ms / static_cast<double>(queries_.count()),
          1e3 * static_cast<double>(queries_.count()) / all_ms);
  }

  static int64_t CountOf(const std::vector<SearchHit>& hits, uint64_t id) {
    return std::count_if(hits.begin(), hits.end(),
                         [&](const SearchHit& one) { return one.id == id; });
  }

  void Print(double share, const std::string& name, int64_t num_found, int64_t num_wanted,
             double median_us, double rate) {
    const double recall =
        num_wanted == 0 ? 1.0 : static_cast<double>(num_found) / static_cast<double>(num_wanted);
    std::printf("| %.3g %% | %s | %.4f | %.0f | %.0f |\n", 100.0 * share, name.c_str(), recall,
                median_us, rate);
    report_["searches"].push_back({{"share", share},
                                   {"way", name},
                                   {"recall", recall},
                                   {"median_us", median_us},
                                   {"queries_per_second", rate}});
  }

  const Arguments arguments_;
  ThreadPool pool_;
  int64_t num_rows_ = 0;
  Vectors queries_;
  std::unique_ptr<FlatIndex> flat_;
  std::unique_ptr<BinaryIndex> codes_;
  std::unique_ptr<bench::ScratchDirectory> scratch_;
  std::shared_ptr<const VectorFile> file_;
  std::unique_ptr<FlatIndex> mapped_;  // the same vectors, in the file
  std::unique_ptr<GraphIndex> graph_;
  std::unique_ptr<CodeScanner> scanner_;  // on a device
  BinarySearchOptions options_;
  Json report_;
};

}  // namespace
}  // namespace intarsia::index

int main(int argc, char** argv) {
  intarsia::index::Arguments arguments;
  CLI::App app("Searches of embeddings by scans and by the graph");
  app.add_option("--vectors", arguments.vectors, ".npy of float32 [count, dim]");
  app.add_option("--json", arguments.json, "where to write the figures");
  app.add_option("--directory", arguments.directory, "where the file of vectors goes for the run");
  app.add_option("--queries", arguments.num_queries)->check(CLI::Range(1, 100'000));
  app.add_option("--random", arguments.num_random, "vectors if there is no file")
      ->check(CLI::Range(1'000, 100'000'000));
  app.add_option("--dim", arguments.dim)->check(CLI::Range(1, 65'536));
  app.add_option("--threads", arguments.num_threads, "0: all")->check(CLI::Range(0, 1'024));
  app.add_option("--recall", arguments.recall, "that calibration is to reach; 0: its default")
      ->check(CLI::Range(0.0, 1.0));
  app.add_flag("--graph", arguments.has_graph, "build a graph too, which takes long");
  app.add_flag("--device", arguments.has_device, "search on the first CUDA device, too");
  app.add_flag("!--no-file", arguments.has_file, "without searches of vectors in a mapped file");
  app.add_flag("!--unfiltered", arguments.has_filters, "without the searches with filters");
  CLI11_PARSE(app, argc, argv);
  intarsia::index::SearchBench(arguments).Run();
  return 0;
}
