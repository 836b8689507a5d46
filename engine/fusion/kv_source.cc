#include "engine/fusion/kv_source.h"

#include <algorithm>
#include <string>

namespace intarsia::engine {

Status MemoryKv::ReadLayer(int32_t layer, std::span<uint8_t> target) const {
  if (layer < 0 || static_cast<size_t>(layer) >= layers_.size() ||
      layers_[static_cast<size_t>(layer)].size() != target.size()) {
    return Status(StatusCode::kInvalidArgument,
                  "KV payload of another size was asked for: layer=" + std::to_string(layer));
  }
  std::ranges::copy(layers_[static_cast<size_t>(layer)], target.begin());
  return Status::Ok();
}

}  // namespace intarsia::engine
