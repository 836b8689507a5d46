#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/place_kv.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/place_kv_device_data.h"
#include "tests/kernels/place_kv_host_data.h"

namespace intarsia::kernels {
namespace {

class PlaceKvCudaTest : public DeviceTest {};

// A sum in another order may round to the neighbouring bf16.
constexpr Tolerance kTolerance = {.absolute = 2e-3, .relative = 0x1p-7, .nmse = 1e-6};

std::vector<float> Widen(const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), values.data());
  return values;
}

TEST_F(PlaceKvCudaTest, AgreesWithTheReferenceOnEveryCase) {
  for (const PlaceKvCase& test_case : PlaceKvCases()) {
    SCOPED_TRACE(test_case.name);
    const PlaceKvData data(test_case);
    const PlacedPages expected = PlaceByReference(data);
    const PlaceKvOnDevice device(data);
    ASSERT_TRUE(PlaceKvCuda(device.Params(), nullptr).ok());
    const std::vector<uint16_t> k = device.k_pages().CopyToHost();
    const std::vector<uint16_t> v = device.v_pages().CopyToHost();
    EXPECT_TRUE(ArraysAgree(Widen(k), Widen(expected.k), kTolerance));
    EXPECT_TRUE(ArraysAgree(Widen(v), Widen(expected.v), kTolerance));
    EXPECT_TRUE(device.k_pages().GuardsAreIntact() && device.v_pages().GuardsAreIntact());
    // Twice the same.
    ASSERT_TRUE(PlaceKvCuda(device.Params(), nullptr).ok());
    EXPECT_EQ(device.k_pages().CopyToHost(), k);
    EXPECT_EQ(device.v_pages().CopyToHost(), v);
  }
}

TEST_F(PlaceKvCudaTest, WithoutAShiftTheWeightsAreNotRead) {
  for (const PlaceKvCase& base : PlaceKvCases()) {
    if (base.type != KvPayloadType::kBf16) continue;
    SCOPED_TRACE(base.name);
    PlaceKvCase plain = base;
    plain.chunk_deltas.assign(plain.chunk_tokens.size(), 0);
    const PlaceKvData data(base);
    const PlacedPages expected = PlaceByReference(PlaceKvData(plain));
    const PlaceKvOnDevice device(data);
    PlaceKvParams params = device.Params();
    params.key_weights = params.value_weights = nullptr;
    params.key_deltas = params.value_deltas = nullptr;
    ASSERT_TRUE(PlaceKvCuda(params, nullptr).ok());
    EXPECT_TRUE(ArraysAgree(Widen(device.k_pages().CopyToHost()), Widen(expected.k), kTolerance));
    EXPECT_EQ(device.v_pages().CopyToHost(), expected.v);
  }
}

TEST_F(PlaceKvCudaTest, ANanInADeltaReachesItsColumnOnly) {
  PlaceKvCase test_case = PlaceKvCases()[2];
  PlaceKvData data(test_case);
  data.value_deltas[5] = 0x7fc0;  // of the first segment's first delta
  const PlacedPages expected = PlaceByReference(data);
  const PlaceKvOnDevice device(data);
  ASSERT_TRUE(PlaceKvCuda(device.Params(), nullptr).ok());
  EXPECT_TRUE(ArraysAgree(Widen(device.v_pages().CopyToHost()), Widen(expected.v), kTolerance));
}

TEST_F(PlaceKvCudaTest, BadParamsAreRefusedBeforeALaunch) {
  const PlaceKvData data(PlaceKvCases()[0]);
  const PlaceKvOnDevice device(data);
  PlaceKvParams params = device.Params();
  params.rope.num_high = 0;
  EXPECT_EQ(PlaceKvCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = device.Params();
  params.value_deltas = nullptr;
  EXPECT_EQ(PlaceKvCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = device.Params();
  params.key_deltas += 1;
  EXPECT_EQ(PlaceKvCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = device.Params();
  params.type = static_cast<KvPayloadType>(9);
  EXPECT_EQ(PlaceKvCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = device.Params();
  params.num_tiles = -1;
  EXPECT_EQ(PlaceKvCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params.num_tiles = 0;
  EXPECT_TRUE(PlaceKvCuda(params, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
