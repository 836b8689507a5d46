// FuzzDriver: runs a fuzz target on mutations of seed inputs, without a fuzzing library.
//
// A fuzz program defines LLVMFuzzerTestOneInput, which must return and must not crash for any
// bytes, and Seeds, valid inputs to start from. This header adds main(): `<program> [iterations]
// [seed]`. All chance comes from the printed seed. With INTARSIA_LIBFUZZER defined there is no
// main(), and libFuzzer can drive the same target.
//
// Thread safety: owned by one thread. Include it in one source file of a program.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer looks for.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace intarsia::fuzz {

// Valid inputs, and words of the format that a mutation may insert.
struct Corpus {
  std::vector<std::string> inputs;
  std::vector<std::string> words;
};
Corpus Seeds();

// What can be done to an input; every method keeps it below kBytesMax.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  // Uniform in [0, bound); 0 for an empty range.
  size_t Below(size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(random_() % bound); }

  // One to eight changes, most of them near the front, where headers are.
  std::string Mutate(const Corpus& corpus) {
    std::string input = corpus.inputs[Below(corpus.inputs.size())];
    const size_t num_changes = 1 + Below(8);
    for (size_t i = 0; i < num_changes; ++i) Change(corpus, &input);
    if (input.size() > kBytesMax) input.resize(kBytesMax);
    return input;
  }

 private:
  static constexpr size_t kBytesMax = size_t{1} << 20;

  size_t Position(const std::string& input) {
    return Below(Below(2) == 0 ? input.size() : std::min<size_t>(input.size(), 256));
  }

  void Change(const Corpus& corpus, std::string* input) {
    const size_t position = Position(*input);
    switch (Below(8)) {
      case 0:  // Flip a bit.
        if (!input->empty()) (*input)[position] = static_cast<char>((*input)[position] ^ Bit());
        break;
      case 1:  // Any byte.
        if (!input->empty()) (*input)[position] = static_cast<char>(Below(256));
        break;
      case 2:  // An integer at the edge of what a length, count or offset may be.
        Overwrite(position, Edge(), input);
        break;
      case 3:
        input->resize(position);
        break;
      case 4:
        input->erase(position, 1 + Below(32));
        break;
      case 5:  // Repeat a piece.
        input->insert(position, input->substr(Position(*input), 1 + Below(64)));
        break;
      case 6:  // A piece of another input.
        if (const std::string& other = corpus.inputs[Below(corpus.inputs.size())]; !other.empty()) {
          input->insert(position, other.substr(Below(other.size()), 1 + Below(64)));
        }
        break;
      default:
        if (!corpus.words.empty()) {
          input->insert(position, corpus.words[Below(corpus.words.size())]);
        }
        break;
    }
  }

  int Bit() { return 1 << Below(8); }

  uint64_t Edge() {
    const uint64_t edge = uint64_t{1} << Below(64);
    return edge + Below(3) - 1;  // Wraps to all ones and zero, which are edges too.
  }

  void Overwrite(size_t position, uint64_t value, std::string* input) {
    const size_t width = size_t{1} << Below(4);
    for (size_t i = 0; i < width && position + i < input->size(); ++i) {
      (*input)[position + i] = static_cast<char>(value >> (8 * i));
    }
  }

  std::mt19937_64 random_;
};

inline void RunOne(std::string_view input) {
  // A copy of exactly this size on the heap, so that asan sees the first byte read behind it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// Runs every seed, then `num_iterations` mutations, or as many as fit into a few seconds if 0.
inline int Run(int64_t num_iterations, uint64_t seed) {
  constexpr auto kDefaultDuration = std::chrono::seconds(3);
  const Corpus corpus = Seeds();
  std::printf("seed=%llu inputs=%zu\n", static_cast<unsigned long long>(seed),  // NOLINT
              corpus.inputs.size());
  std::fflush(stdout);
  for (const std::string& input : corpus.inputs) RunOne(input);
  if (corpus.inputs.empty()) return 1;
  const auto end = std::chrono::steady_clock::now() + kDefaultDuration;
  int64_t iteration = 0;
  for (; num_iterations > 0 ? iteration < num_iterations : std::chrono::steady_clock::now() < end;
       ++iteration) {
    // Seeded by iteration, so that iteration N runs alone as `<program> 1 <seed + N>`.
    Mutator mutator(seed + static_cast<uint64_t>(iteration));
    RunOne(mutator.Mutate(corpus));
  }
  std::printf("iterations=%lld\n", static_cast<long long>(iteration));  // NOLINT
  return 0;
}

}  // namespace intarsia::fuzz

#ifndef INTARSIA_LIBFUZZER
// NOLINTNEXTLINE(misc-definitions-in-headers): a program includes this once.
int main(int argc, char** argv) {
  const int64_t num_iterations = argc > 1 ? std::strtoll(argv[1], nullptr, 10) : 0;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  return intarsia::fuzz::Run(num_iterations, seed);
}
#endif
