// Fp8Array: rows of e4m3 with their scales, on the device and on the host, for the tests and
// benchmarks of CUDA forms. Both start as NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/e4m3.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"

namespace intarsia::kernels {

class HostFp8Array {
 public:
  HostFp8Array(int64_t num_rows, int64_t dim)
      : codes(static_cast<size_t>(num_rows * dim), 0xff),
        scales(static_cast<size_t>(num_rows), std::nanf("1")) {}
  HostFp8Array(std::vector<uint8_t> all_codes, std::vector<float> all_scales)
      : codes(std::move(all_codes)), scales(std::move(all_scales)) {}

  Fp8Target target() { return {codes.data(), scales.data()}; }
  Fp8Rows rows() const { return {codes.data(), scales.data()}; }

  // What the codes stand for, row by row.
  std::vector<float> ToFloats() const {
    std::vector<float> floats;
    const size_t dim = codes.size() / scales.size();
    for (size_t i = 0; i < codes.size(); ++i) {
      floats.push_back(E4m3ToF32(codes[i]) * scales[i / dim]);
    }
    return floats;
  }

  // NaN equals NaN.
  friend bool operator==(const HostFp8Array& a, const HostFp8Array& b) {
    if (a.codes != b.codes || a.scales.size() != b.scales.size()) return false;
    for (size_t i = 0; i < a.scales.size(); ++i) {
      const bool are_nan = std::isnan(a.scales[i]) && std::isnan(b.scales[i]);
      if (!are_nan && a.scales[i] != b.scales[i]) return false;
    }
    return true;
  }

  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

class Fp8Array {
 public:
  Fp8Array(int64_t num_rows, int64_t dim)
      : codes_(FilledOnDevice<uint8_t>(num_rows * dim, 0xff)),
        scales_(FilledOnDevice<float>(num_rows, std::nanf("1"))) {}
  explicit Fp8Array(const HostFp8Array& array) : codes_(array.codes), scales_(array.scales) {}

  Fp8Target target() const { return {codes_.data(), scales_.data()}; }
  Fp8Rows rows() const { return {codes_.data(), scales_.data()}; }
  HostFp8Array CopyToHost() const { return {codes_.CopyToHost(), scales_.CopyToHost()}; }
  bool GuardsAreIntact() const { return codes_.GuardsAreIntact() && scales_.GuardsAreIntact(); }

 private:
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> scales_;
};

}  // namespace intarsia::kernels
