// BinaryBatchScanCuda: many queries of eight bits a dimension against all codes on a device, down
// to their prospects.
//
// The estimate is that of binary_batch_scan.h, and its interval score -+ error_bound * error; what
// is kept of it kernels/prospects.h says. No score is written to memory.
//
// Thread safety: all functions may be called concurrently on distinct outputs and workspaces.
// Lifetime: all memory must outlast the work enqueued on it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/binary_batch_scan.h"
#include "kernels/binary_rows.h"
#include "kernels/prospects.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// More dimensions are refused by the CUDA form: a pass keeps its queries in shared memory.
inline constexpr int64_t kBinaryBatchWordsMax = 128;

// Which instructions multiply.
enum class BinaryBatchMethod : uint8_t {
  kDefault = 0,    // the widest that the device and the sizes allow
  kWarp = 1,       // mma.sync
  kWarpgroup = 2,  // wgmma; refused where it is not to be had
};

struct BinaryBatchScanCudaParams {
  BinaryRows rows;
  const uint32_t* filter = nullptr;  // [num_tiles], a bit a row, the lowest first; null: all
  const int8_t* queries = nullptr;   // [num_queries, num_words * 64], -127 to 127, 16-byte aligned
  const float* steps = nullptr;      // [num_queries]
  const float* bases = nullptr;      // [num_queries]
  const float* error_bounds = nullptr;  // [num_queries], >= 0; others count as NaN
  ProspectLists lists;
  void* workspace = nullptr;  // BinaryBatchScanWorkspaceBytes(params), 256-byte aligned
  BinaryBatchMethod method = BinaryBatchMethod::kDefault;
};

// What all forms refuse: kInvalidArgument for a null pointer or a number out of range.
Status CheckBinaryBatchScanCuda(const BinaryBatchScanCudaParams& params);

// What passes over any number of these rows need on the device, in bytes. Looks at sizes only. Only
// builds with INTARSIA_CUDA define it.
int64_t BinaryBatchScanWorkspaceBytes(const BinaryBatchScanCudaParams& params);

// The definition, on host pointers and without a workspace; complete after one pass.
Status BinaryBatchScanCudaReference(const BinaryBatchScanCudaParams& params);

// Enqueues a pass on device pointers.
// Errors: those of CheckBinaryBatchScanCuda(); kUnsupported for more than kBinaryBatchWordsMax
// words, and for a method that is not to be had; kInternal from the launch.
Status BinaryBatchScanCuda(const BinaryBatchScanCudaParams& params, ProspectPass pass,
                           Stream stream);

}  // namespace intarsia::kernels
