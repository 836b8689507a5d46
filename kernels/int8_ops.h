// The inner loops of int8_matrix.h. Internal to kernels/.
#pragma once

#include <cstdint>

namespace intarsia::kernels {

// Quantises one row: codes of -127 to 127 plus 128, and a step for each group of kInt8GroupInputs.
// A group that holds a NaN or an infinity has the step NaN; one below 1e-30 is zero.
struct Int8QuantizeParams {
  const float* x = nullptr;          // [num_inputs]; null: x_bf16
  const uint16_t* x_bf16 = nullptr;  // the same as bf16 bits
  int64_t num_inputs = 0;
  uint8_t* codes = nullptr;  // [num_inputs, rounded up to 4]; the rest is 128, that is 0
  float* steps = nullptr;    // [groups]
};
void Int8Quantize(const Int8QuantizeParams& params);

// Some rows times one panel of 64 outputs.
struct Int8TileParams {
  const uint8_t* codes = nullptr;  // [num_rows, row_bytes]
  const float* steps = nullptr;    // [num_rows, num_groups]
  int64_t num_rows = 0;
  int64_t row_bytes = 0;
  int64_t num_groups = 0;
  const int8_t* panel_codes = nullptr;     // [row_bytes / 4, 64, 4]
  const float* panel_steps = nullptr;      // [num_groups, 64]
  const int32_t* panel_offsets = nullptr;  // [num_groups, 64]
  const float* bias = nullptr;             // [num_outputs], may be null
  int64_t num_outputs = 0;                 // of the panel, 1 to 64
  float* y = nullptr;                      // [num_rows, num_outputs], rows y_stride apart
  int64_t y_stride = 0;
};
void Int8MultiplyTile(const Int8TileParams& params);

}  // namespace intarsia::kernels
