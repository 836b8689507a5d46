// Runs tests of CUDA forms on an emulated device: --capability=90 --multiprocessors=3.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/kernels/emulation/emulated_block.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  intarsia::emulation::EmulatedDevice& device = intarsia::emulation::CurrentDevice();
  constexpr std::string_view kCapability = "--capability=";
  constexpr std::string_view kMultiprocessors = "--multiprocessors=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, kCapability.size()) == kCapability) {
      device.capability = std::atoi(argv[i] + kCapability.size());
    } else if (argument.substr(0, kMultiprocessors.size()) == kMultiprocessors) {
      device.num_multiprocessors = std::atoi(argv[i] + kMultiprocessors.size());
    } else {
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
