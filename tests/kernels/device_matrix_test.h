// DeviceMatrixTest: what the tests of products in bf16 and in e4m3 share.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {

struct ProductCase {
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;

  std::string ToString() const {
    return std::to_string(num_rows) + " x " + std::to_string(num_inputs) + " x " +
           std::to_string(num_outputs);
  }
};

// Products and their workspace, to be made by the SetUp of a fixture over DeviceTest.
class ProductsOnDevice {
 public:
  void Create(const DeviceMatrixOptions& options) {
    auto products = DeviceMatrixProducts::Create(options);
    ASSERT_TRUE(products.ok()) << products.status();
    products_ = *std::move(products);
    auto workspace = DeviceBuffer::Allocate(DeviceMatrixProducts::kWorkspaceBytes, nullptr);
    ASSERT_TRUE(workspace.ok()) << workspace.status();
    workspace_ = *std::move(workspace);
  }
  void* workspace() const { return workspace_.data(); }
  Status Multiply(const DeviceMatMulParams& params) const {
    return products_->MultiplyCuda(params, nullptr);
  }

  // The product, which two runs must give bit by bit, over `poison` and between guard bands. `y`,
  // its type, the sizes and the workspace of `params` are filled in here.
  template <typename T>
  std::vector<T> MultiplyTwice(const ProductCase& problem, T poison,
                               DeviceMatMulParams* params) const {
    const auto y = FilledOnDevice<T>(problem.num_rows * problem.num_outputs, poison);
    params->y = y.data();
    params->y_type = sizeof(T) == 4 ? DeviceType::kF32 : DeviceType::kBf16;
    params->num_rows = problem.num_rows;
    params->num_inputs = problem.num_inputs;
    params->num_outputs = problem.num_outputs;
    params->workspace = workspace();
    const Status status = Multiply(*params);
    EXPECT_TRUE(status.ok()) << status;
    const std::vector<T> first = y.CopyToHost();
    EXPECT_TRUE(Multiply(*params).ok());
    EXPECT_EQ(std::memcmp(y.CopyToHost().data(), first.data(), first.size() * sizeof(T)), 0);
    EXPECT_TRUE(y.GuardsAreIntact());
    return first;
  }

 private:
  std::unique_ptr<DeviceMatrixProducts> products_;
  DeviceBuffer workspace_;
};

// What the definition gives for params whose pointers, but for y, are those of the host.
template <typename T>
std::vector<T> ProductOfReference(DeviceMatMulParams params, T poison) {
  std::vector<T> expected(static_cast<size_t>(params.num_rows * params.num_outputs), poison);
  params.y = expected.data();
  EXPECT_TRUE(DeviceMatMulReference(params).ok());
  return expected;
}

}  // namespace intarsia::kernels
