// scan_bench: how close an exhaustive scan of binary codes comes to reading memory.
//
// Codes, factors and queries are random. Rounds of reading, of scans with a query of one and of
// four bits, and of FAISS IndexBinaryFlat run one after the other in one process, so that a ratio
// compares neighbours; the best time of each counts, because other programs can only add to it.
// "Share" is the bytes of codes a second over the bytes a second that the same threads read; the
// scan also reads three factors of four bytes for each code, which the last column counts.
// A second table has batches of 64 queries in 8 bits a dimension: pairs of a code and a query a
// second, and beside the scan what oneDNN multiplies of bytes that are unpacked already, which is
// the most that a scan through it, with AMX where the processor has it, could reach.
// A program and not a Google Benchmark, because its figures are ratios between cases.
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/aligned_array.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/index/byte_product.h"
#include "bench/index/faiss_binary.h"
#include "index/prospect_list.h"
#include "kernels/binary_batch_scan.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {
namespace {

constexpr int64_t kRangeCodes = 16'384;
constexpr int64_t kTileBlocks = 64;
constexpr int64_t kTileCodes = kTileBlocks * kernels::kBinaryBlockCodes;
constexpr int64_t kHits = 10;
constexpr int64_t kBatchQueries = 64;
constexpr int64_t kBatchGroups = kBatchQueries / kernels::kBatchGroupQueries;
constexpr int64_t kProductCodes = 256;  // unpacked at a time

struct Arguments {
  int64_t num_codes = 10'000'000;
  int64_t num_bits = 1'024;
  int num_rounds = 7;
  int num_threads = 0;
};

// The processor's name, and those of its instructions that a scan cares for.
void PrintProcessor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::string name = "unknown processor";
  std::string flags;
  while (flags.empty() && std::getline(file, line)) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) name = line.substr(colon + 2);
    if (line.starts_with("flags")) flags = line.substr(colon + 1) + " ";
  }
  std::printf("%s:", name.c_str());
  for (const char* const one :
       {"avx2", "avx512f", "avx512_vpopcntdq", "avx512_vnni", "avx512_bf16", "amx_int8"}) {
    const bool is_there = flags.find(" " + std::string(one) + " ") != std::string::npos;
    std::printf(" %s%s", is_there ? "" : "no ", one);
  }
  std::printf("\n");
}

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// Reads memory as fast as a loop can: with the widest vectors that the processor has. Narrow ones
// read at less than the scan does. `count` is a multiple of 32.
__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3"))) uint64_t XorOf(
    const uint64_t* words, int64_t count) {
  std::array<uint64_t, 32> sums{};
  for (int64_t i = 0; i < count; i += 32) {
    for (size_t j = 0; j < 32; ++j) sums[j] ^= words[i + static_cast<int64_t>(j)];
  }
  uint64_t sum = 0;
  for (const uint64_t one : sums) sum ^= one;
  return sum;
}

class ScanBench {
 public:
  explicit ScanBench(const Arguments& arguments)
      : arguments_(arguments),
        num_words_(arguments.num_bits / 64),
        num_codes_(arguments.num_codes / kRangeCodes * kRangeCodes),
        pool_(arguments.num_threads),
        codes_(num_codes_ * num_words_),
        factors_(3 * num_codes_) {
    pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t range, int) {
      const int64_t begin = range * kRangeCodes;
      for (int64_t i = begin * num_words_; i < (begin + kRangeCodes) * num_words_; ++i) {
        codes_[i] = Mix(static_cast<uint64_t>(i) + 1);
      }
      for (int64_t i = 3 * begin; i < 3 * (begin + kRangeCodes); ++i) {
        factors_[i] = 1.0F + 1e-6F * static_cast<float>(i % 1'000);
      }
    });
    for (int64_t i = 0; i < 4 * num_words_; ++i) query_.push_back(Mix(~static_cast<uint64_t>(i)));
  }

  void Run() {
    auto faiss = std::make_unique<FaissBinaryFlat>(arguments_.num_bits);
    const auto bytes = codes_.span();
    const bool has_faiss = faiss->Add(
        {reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<size_t>(codes_.num_bytes())});
    std::array<double, 4> best;
    best.fill(std::numeric_limits<double>::infinity());
    const auto time = [&best](size_t at, const std::function<void()>& body) {
      const Stopwatch stopwatch;
      body();
      best[at] = std::min(best[at], stopwatch.milliseconds());
    };
    for (int round = 0; round < arguments_.num_rounds; ++round) {
      time(0, [this] { Read(); });
      time(1, [this] { Scan(1); });
      time(2, [this] { Scan(4); });
      if (!has_faiss || round >= 3) continue;
      time(3, [&] {
        faiss->Search({reinterpret_cast<const uint8_t*>(query_.data()),
                       static_cast<size_t>(arguments_.num_bits / 8)},
                      kHits, pool_.num_threads());
      });
    }
    Report(best);
  }

  void RunBatches() {
    std::vector<std::unique_ptr<ByteProduct>> products;
    for (int i = 0; i < pool_.num_threads(); ++i) {
      products.push_back(
          std::make_unique<ByteProduct>(kProductCodes, arguments_.num_bits, kBatchQueries));
    }
    double scan_ms = std::numeric_limits<double>::infinity();
    double product_ms = scan_ms;
    for (int round = 0; round < std::min(arguments_.num_rounds, 3); ++round) {
      const Stopwatch scanning;
      ScanBatch();
      scan_ms = std::min(scan_ms, scanning.milliseconds());
      const Stopwatch multiplying;
      pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t, int worker) {
        for (int64_t i = 0; i < kRangeCodes / kProductCodes; ++i) {
          if (!products[static_cast<size_t>(worker)]->Run()) return;
        }
      });
      product_ms = std::min(product_ms, multiplying.milliseconds());
    }
    const auto pairs = static_cast<double>(num_codes_ * kBatchQueries);
    std::printf(
        "| batch of %lld queries in 8 bits | ms | G pairs/s | queries/s |\n|---|---|---|---|\n",
        static_cast<long long>(kBatchQueries));
    const auto print = [&](const std::string& name, double ms) {
      std::printf("| %s | %.1f | %.2f | %.1f |\n", name.c_str(), ms, pairs / ms / 1e6,
                  1e3 * static_cast<double>(kBatchQueries) / ms);
    };
    print("scan", scan_ms);
    const std::string implementation = products[0]->implementation();
    if (!implementation.empty()) {
      print("oneDNN's product alone (" + implementation + ")", product_ms);
    }
  }

 private:
  void Read() {
    pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t range, int) {
      sink_ = XorOf(codes_.data() + range * kRangeCodes * num_words_, kRangeCodes * num_words_);
    });
  }

  // The best codes by score, as a search finds them.
  void Scan(int64_t num_query_planes) {
    std::vector<ProspectList> lists(static_cast<size_t>(pool_.num_threads()), ProspectList(kHits));
    pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t range, int worker) {
      ProspectList& list = lists[static_cast<size_t>(worker)];
      std::array<float, kTileCodes> scores;
      std::array<uint8_t, kTileBlocks> survivors;
      for (int64_t tile = 0; tile < kRangeCodes / kTileCodes; ++tile) {
        const int64_t slot = range * kRangeCodes + tile * kTileCodes;
        kernels::BinaryScanParams params;
        SetBlocks(slot, &params);
        params.query_planes = query_.data();
        params.num_query_planes = num_query_planes;
        params.half_step = 1.0F;
        params.threshold = list.threshold();
        params.scores = scores.data();
        params.survivors = survivors.data();
        if (!kernels::BinaryScan(params).ok()) std::abort();
        for (int64_t i = 0; i < kTileCodes; ++i) {
          if ((survivors[static_cast<size_t>(i / 8)] >> (i % 8) & 1) == 0) continue;
          list.Add(slot + i, scores[static_cast<size_t>(i)], 0.0F);
        }
      }
    });
    for (size_t i = 1; i < lists.size(); ++i) lists[0].Merge(lists[i]);
    sink_ = static_cast<uint64_t>(lists[0].Take().front().slot);
  }

  // All codes with a batch of queries; the survivors are what a search would look at.
  void ScanBatch() {
    std::vector<int8_t> queries(static_cast<size_t>(kBatchQueries * arguments_.num_bits));
    for (size_t i = 0; i < queries.size(); ++i) {
      queries[i] = static_cast<int8_t>(static_cast<int>(Mix(i) % 255) - 127);
    }
    const std::vector<float> ones(kBatchQueries, 1.0F);
    const std::vector<float> thresholds(kBatchQueries, std::numeric_limits<float>::max());
    const std::vector<int32_t> sums(kBatchQueries, 0);
    pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t range, int) {
      std::vector<float> scores(static_cast<size_t>(kTileCodes * kBatchQueries));
      std::vector<uint16_t> survivors(static_cast<size_t>(kTileCodes * kBatchGroups));
      uint64_t sum = 0;
      for (int64_t tile = 0; tile < kRangeCodes / kTileCodes; ++tile) {
        const int64_t slot = range * kRangeCodes + tile * kTileCodes;
        kernels::BinaryBatchScanParams params;
        SetBlocks(slot, &params);
        params.num_groups = kBatchGroups;
        params.queries = queries.data();
        params.steps = ones.data();
        params.bases = ones.data();
        params.sums = sums.data();
        params.error_bounds = ones.data();
        params.thresholds = thresholds.data();
        params.scores = scores.data();
        params.survivors = survivors.data();
        if (!kernels::BinaryBatchScan(params).ok()) std::abort();
        for (const uint16_t one : survivors) sum += one;
      }
      sink_ = sum;
    });
  }

  void SetBlocks(int64_t slot, kernels::BinaryCodeBlocks* blocks) const {
    blocks->planes[0] = codes_.data() + slot * num_words_;
    blocks->num_words = num_words_;
    blocks->num_blocks = kTileBlocks;
    blocks->scales = factors_.data() + slot;
    blocks->offsets = factors_.data() + num_codes_ + slot;
    blocks->errors = factors_.data() + 2 * num_codes_ + slot;
  }

  void Report(const std::array<double, 4>& best) const {
    constexpr std::array<const char*, 4> kNames = {
        "read", "scan, query of 1 bit", "scan, query of 4 bits", "FAISS IndexBinaryFlat"};
    const double code_bytes = static_cast<double>(codes_.num_bytes());
    const double all_bytes = code_bytes + static_cast<double>(factors_.num_bytes());
    std::printf("%lld codes of %lld bits, %d threads\n", static_cast<long long>(num_codes_),
                static_cast<long long>(arguments_.num_bits), pool_.num_threads());
    std::printf("| case | ms | GB/s of codes | share of read | with factors | against FAISS |\n");
    std::printf("|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < best.size(); ++i) {
      const bool is_scan = i == 1 || i == 2;
      std::printf("| %s | %.1f | %.1f | %.0f %% | %.0f %% | %.1fx |\n", kNames[i], best[i],
                  code_bytes / best[i] / 1e6, 100.0 * best[0] / best[i],
                  100.0 * best[0] / best[i] * (is_scan ? all_bytes / code_bytes : 1.0),
                  best[3] / best[i]);
    }
  }

  const Arguments arguments_;
  const int64_t num_words_;
  const int64_t num_codes_;
  ThreadPool pool_;
  AlignedArray<uint64_t> codes_;
  AlignedArray<float> factors_;
  std::vector<uint64_t> query_;
  volatile uint64_t sink_ = 0;
};

}  // namespace
}  // namespace intarsia::index

int main(int argc, char** argv) {
  intarsia::index::Arguments arguments;
  CLI::App app("How close a scan of binary codes comes to reading memory");
  app.add_option("--codes", arguments.num_codes)
      ->check(CLI::Range(int64_t{16'384}, int64_t{1} << 32));
  app.add_option("--bits", arguments.num_bits, "a multiple of 64")
      ->check(CLI::Range(int64_t{64}, int64_t{65'536}));
  app.add_option("--rounds", arguments.num_rounds)->check(CLI::Range(1, 1'000));
  app.add_option("--threads", arguments.num_threads, "0: all")->check(CLI::Range(0, 1'024));
  CLI11_PARSE(app, argc, argv);
  arguments.num_bits = arguments.num_bits / 64 * 64;
  intarsia::index::PrintProcessor();
  intarsia::index::ScanBench bench(arguments);
  bench.Run();
  bench.RunBatches();
  return 0;
}
