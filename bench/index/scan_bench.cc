// scan_bench: how close an exhaustive scan of binary codes comes to reading memory.
//
// Codes, factors and queries are random. Rounds of reading, of scans with a query of one and of
// four bits, and of FAISS IndexBinaryFlat run one after the other in one process, so that a ratio
// compares neighbours; the best time of each counts, because other programs can only add to it.
// "Share" is the bytes of codes a second over the bytes a second that the same threads read; the
// scan also reads three factors of four bytes for each code, which the last column counts.
// A program and not a Google Benchmark, because its figures are ratios between cases.
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/aligned_array.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/index/faiss_binary.h"
#include "index/prospect_list.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {
namespace {

constexpr int64_t kRangeCodes = 16'384;
constexpr int64_t kTileBlocks = 64;
constexpr int64_t kTileCodes = kTileBlocks * kernels::kBinaryBlockCodes;
constexpr int64_t kHits = 10;

struct Arguments {
  int64_t num_codes = 10'000'000;
  int64_t num_bits = 1'024;
  int num_rounds = 7;
  int num_threads = 0;
};

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
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

 private:
  void Read() {
    pool_.ParallelFor(num_codes_ / kRangeCodes, [&](int64_t range, int) {
      const uint64_t* const words = codes_.data() + range * kRangeCodes * num_words_;
      std::array<uint64_t, 32> sums{};  // Enough for the compiler to use vectors of any width.
      for (int64_t i = 0; i < kRangeCodes * num_words_; i += 32) {
        for (size_t j = 0; j < 32; ++j) sums[j] ^= words[i + static_cast<int64_t>(j)];
      }
      uint64_t sum = 0;
      for (const uint64_t one : sums) sum ^= one;
      sink_ = sum;
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
        params.planes[0] = codes_.data() + slot * num_words_;
        params.query_planes = query_.data();
        params.num_query_planes = num_query_planes;
        params.num_words = num_words_;
        params.num_blocks = kTileBlocks;
        params.scales = factors_.data() + slot;
        params.offsets = factors_.data() + num_codes_ + slot;
        params.errors = factors_.data() + 2 * num_codes_ + slot;
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
  intarsia::index::ScanBench(arguments).Run();
  return 0;
}
