// FaissBinaryFlat: FAISS IndexBinaryFlat, the exhaustive Hamming search that the scan is compared
// with.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace intarsia::index {

class FaissBinaryFlat {
 public:
  explicit FaissBinaryFlat(int64_t num_bits);
  ~FaissBinaryFlat();
  FaissBinaryFlat(const FaissBinaryFlat&) = delete;
  FaissBinaryFlat& operator=(const FaissBinaryFlat&) = delete;

  // `codes` are [count, num_bits / 8]. False if it ran out of memory.
  bool Add(std::span<const uint8_t> codes);
  // The Hamming distance of the k-th nearest code, or -1 after an error. Uses `num_threads`.
  int64_t Search(std::span<const uint8_t> query, int64_t k, int num_threads) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace intarsia::index
