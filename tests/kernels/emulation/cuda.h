// Stands in for CUDA's header of this name: a tensor map is what it was made from.
#pragma once

#include <cstdint>

struct alignas(64) CUtensorMap {
  const uint16_t* data = nullptr;
  int64_t num_rows = 0;
  int32_t num_columns = 0;
  int32_t box_rows = 0;
};
