#include <utility>

#include "base/check.h"
#include "index/device_code_scanner.h"
#include "tests/index/code_scanner_expectations.h"
#include "tests/kernels/device_test.h"

namespace intarsia::index {
namespace {

class DeviceCodeScannerCudaTest : public kernels::DeviceTest {};

std::unique_ptr<CodeScanner> MakeOnDevice() {
  auto scanner = MakeDeviceCodeScanner(0);
  INTARSIA_CHECK(scanner.ok());
  return *std::move(scanner);
}

TEST_F(DeviceCodeScannerCudaTest, SearchesThroughItAreThoseOfComparingAllVectors) {
  uint32_t seed = 1;
  for (const int64_t dim : {32, 100, 384, 1'024}) {
    for (const int32_t bits : {1, 2}) ExpectSearchesAreExact(&MakeOnDevice, dim, bits, seed++);
  }
}

TEST_F(DeviceCodeScannerCudaTest, TruncatedCandidatesAreReported) {
  ExpectCandidatesAreLimited(&MakeOnDevice);
}

TEST_F(DeviceCodeScannerCudaTest, CodesThatNoKernelIsForAreRefused) {
  const ClusteredVectors data = MakeClusteredVectors(20, 12'352, 1, 3);
  const auto flat = *FlatIndex::Create({.dim = data.dim});
  ASSERT_TRUE(flat->Add(data.ids, data.rows).ok());
  const auto codes = *BinaryIndex::Build(*flat, {.bits = 1}, nullptr);
  const std::unique_ptr<CodeScanner> scanner = MakeOnDevice();
  ASSERT_TRUE(scanner->Extend(AllBlocks(*codes), codes->size()).ok());
  const auto found = codes->Search(*flat, {.query = data.query(0)}, {.scanner = scanner.get()});
  EXPECT_EQ(found.status().code(), StatusCode::kUnsupported);
}

TEST_F(DeviceCodeScannerCudaTest, ADeviceThatDoesNotExistIsRefused) {
  EXPECT_EQ(MakeDeviceCodeScanner(1'000).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::index
