// PlaceKvOnHost: a case in memory as the reference takes it, and its result.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/place_kv.h"
#include "tests/kernels/place_kv_cases.h"

namespace intarsia::kernels {

// An array of 16-bit numbers aligned as page pools are.
class AlignedPages {
 public:
  explicit AlignedPages(int64_t size)
      : size_(size),
        data_(static_cast<uint16_t*>(
            std::aligned_alloc(128, static_cast<size_t>(size * 2 + 127) / 128 * 128))) {
    INTARSIA_CHECK(data_ != nullptr);
    std::fill_n(data_.get(), size, PlaceKvData::kPoison);
  }
  uint16_t* data() const { return data_.get(); }
  std::vector<uint16_t> Read() const { return {data_.get(), data_.get() + size_}; }

 private:
  struct Free {
    void operator()(uint16_t* pointer) const { std::free(pointer); }
  };
  int64_t size_;
  std::unique_ptr<uint16_t, Free> data_;
};

// Numbers copied to where a kernel may read them with wide accesses.
template <typename T>
class AlignedCopy {
 public:
  explicit AlignedCopy(const std::vector<T>& values)
      : pages_(static_cast<int64_t>(values.size() * sizeof(T) / 2 + 64)) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() const { return reinterpret_cast<T*>(pages_.data()); }

 private:
  AlignedPages pages_;
};

struct PlacedPages {
  std::vector<uint16_t> k;
  std::vector<uint16_t> v;
};

inline PlacedPages PlaceByReference(const PlaceKvData& data) {
  const AlignedPages k(data.num_page_elements);
  const AlignedPages v(data.num_page_elements);
  const AlignedCopy<float> digits(data.digits);
  const AlignedCopy<uint16_t> key_weights(data.key_weights);
  const AlignedCopy<uint16_t> value_weights(data.value_weights);
  const AlignedCopy<uint16_t> key_deltas(data.key_deltas);
  const AlignedCopy<uint16_t> value_deltas(data.value_deltas);
  std::vector<const uint8_t*> payloads;
  for (const auto& payload : data.payloads) payloads.push_back(payload.data());
  PlaceKvParams params = data.Params();
  params.layer.k_pages = k.data();
  params.layer.v_pages = v.data();
  params.layer.page_table = data.page_table.data();
  params.segments = data.segments.data();
  params.tiles = data.tiles.data();
  params.payloads = payloads.data();
  params.is_row = data.is_row.data();
  params.key_weights = key_weights.data();
  params.value_weights = value_weights.data();
  params.key_deltas = key_deltas.data();
  params.value_deltas = value_deltas.data();
  params.rope.low = digits.data();
  params.rope.high = digits.data() + kRopeDigitValues * data.test_case.rotary_dim;
  INTARSIA_CHECK(PlaceKvReference(params).ok());
  return {.k = k.Read(), .v = v.Read()};
}

}  // namespace intarsia::kernels
