// PlaceKvOnDevice: a PlaceKvCase on a device, for the CUDA test and benchmark.
//
// Thread safety: owned by one thread.
#pragma once

#include <memory>
#include <vector>

#include "kernels/place_kv.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/place_kv_cases.h"

namespace intarsia::kernels {

class PlaceKvOnDevice {
 public:
  explicit PlaceKvOnDevice(const PlaceKvData& data)
      : data_(data),
        segments_(data.segments),
        tiles_(data.tiles),
        is_row_(data.is_row),
        key_weights_(data.key_weights),
        value_weights_(data.value_weights),
        key_deltas_(data.key_deltas),
        value_deltas_(data.value_deltas),
        page_table_(data.page_table),
        digits_(data.digits),
        k_pages_(Poison()),
        v_pages_(Poison()) {
    std::vector<const uint8_t*> pointers;
    for (const std::vector<uint8_t>& payload : data.payloads) {
      payloads_.push_back(std::make_unique<DeviceArray<uint8_t>>(payload));
      pointers.push_back(payloads_.back()->data());
    }
    pointers_ = std::make_unique<DeviceArray<const uint8_t*>>(pointers);
  }

  PlaceKvParams Params() const {
    PlaceKvParams params = data_.Params();
    params.layer.k_pages = k_pages_.data();
    params.layer.v_pages = v_pages_.data();
    params.layer.page_table = page_table_.data();
    params.segments = segments_.data();
    params.tiles = tiles_.data();
    params.payloads = pointers_->data();
    params.is_row = is_row_.data();
    params.key_weights = key_weights_.data();
    params.value_weights = value_weights_.data();
    params.key_deltas = key_deltas_.data();
    params.value_deltas = value_deltas_.data();
    params.rope.low = digits_.data();
    params.rope.high = digits_.data() + kRopeDigitValues * data_.test_case.rotary_dim;
    return params;
  }

  const DeviceArray<uint16_t>& k_pages() const { return k_pages_; }
  const DeviceArray<uint16_t>& v_pages() const { return v_pages_; }

 private:
  std::vector<uint16_t> Poison() const {
    return std::vector<uint16_t>(static_cast<size_t>(data_.num_page_elements),
                                 PlaceKvData::kPoison);
  }

  const PlaceKvData& data_;
  const DeviceArray<PlacedSegment> segments_;
  const DeviceArray<PlaceTile> tiles_;
  const DeviceArray<uint8_t> is_row_;
  const DeviceArray<uint16_t> key_weights_;
  const DeviceArray<uint16_t> value_weights_;
  const DeviceArray<uint16_t> key_deltas_;
  const DeviceArray<uint16_t> value_deltas_;
  const DeviceArray<int32_t> page_table_;
  const DeviceArray<float> digits_;
  const DeviceArray<uint16_t> k_pages_;
  const DeviceArray<uint16_t> v_pages_;
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> payloads_;
  std::unique_ptr<DeviceArray<const uint8_t*>> pointers_;
};

}  // namespace intarsia::kernels
