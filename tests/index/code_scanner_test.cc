// A scanner of codes, as tests stand one in for a device: what it does devices must do.
#include "index/code_scanner.h"

#include "tests/index/code_scanner_expectations.h"
#include "tests/index/host_code_scanner.h"

namespace intarsia::index {
namespace {

std::unique_ptr<CodeScanner> MakeHost() { return std::make_unique<HostCodeScanner>(); }

TEST(CodeScannerTest, SearchesThroughItAreThoseOfComparingAllVectors) {
  uint32_t seed = 1;
  for (const int64_t dim : {32, 100}) {
    for (const int32_t bits : {1, 2}) ExpectSearchesAreExact(&MakeHost, dim, bits, seed++);
  }
}

TEST(CodeScannerTest, TruncatedCandidatesAreReported) { ExpectCandidatesAreLimited(&MakeHost); }

}  // namespace
}  // namespace intarsia::index
