#include <exception>
#include <vector>

#include <faiss/IndexBinaryFlat.h>
#include <omp.h>

#include "bench/index/faiss_binary.h"

namespace intarsia::index {

struct FaissBinaryFlat::State {
  explicit State(int64_t num_bits) : index(num_bits) {}
  faiss::IndexBinaryFlat index;
};

FaissBinaryFlat::FaissBinaryFlat(int64_t num_bits) : state_(std::make_unique<State>(num_bits)) {}
FaissBinaryFlat::~FaissBinaryFlat() = default;

bool FaissBinaryFlat::Add(std::span<const uint8_t> codes) {
  try {
    state_->index.add(static_cast<int64_t>(codes.size()) / state_->index.code_size, codes.data());
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

int64_t FaissBinaryFlat::Search(std::span<const uint8_t> query, int64_t k, int num_threads) const {
  try {
    omp_set_num_threads(num_threads);
    std::vector<int32_t> distances(static_cast<size_t>(k));
    std::vector<faiss::IndexBinary::idx_t> labels(static_cast<size_t>(k));
    state_->index.search(1, query.data(), k, distances.data(), labels.data());
    return distances.back();
  } catch (const std::exception&) {
    return -1;
  }
}

}  // namespace intarsia::index
