// BinaryScanCuda: one query of four bits a dimension against all codes on a device, down to its
// prospects.
//
// The estimate is that of binary_scan.h, and its interval score -+ error_bound * error; what is
// kept of it kernels/prospects.h says. No score is written to memory.
//
// Thread safety: all functions may be called concurrently on distinct outputs and workspaces.
// Lifetime: all memory must outlast the work enqueued on it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/binary_rows.h"
#include "kernels/prospects.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Codes of more than this many bytes are refused by the CUDA form.
inline constexpr int64_t kBinaryScanRowBytesMax = 1'536;

// How a device counts the bits of a product: for measurements, because all give the same. Rows for
// which there is no kernel of a method are counted by kAdd. The default is kTensor up to compute
// capability 9.0, and kAdd on newer devices.
enum class BinaryScanMethod : uint8_t {
  kDefault = 0,
  kAdd = 1,     // words of equal weight are added bit by bit, which spares half of their popcounts
  kTensor = 2,  // tensor cores multiply bits
};

struct BinaryScanCudaParams {
  BinaryRows rows;
  const uint32_t* filter = nullptr;        // [num_tiles], a bit a row, the lowest first; null: all
  const uint64_t* query_planes = nullptr;  // [4, num_words], lowest first
  float half_step = 0.0F;
  float base = 0.0F;
  float error_bound = 0.0F;   // >= 0
  ProspectLists lists;        // of one query
  void* workspace = nullptr;  // ProspectWorkspaceBytes(lists), 256-byte aligned
  BinaryScanMethod method = BinaryScanMethod::kDefault;
};

// What all forms refuse: kInvalidArgument for a null pointer or a number out of range.
Status CheckBinaryScanCuda(const BinaryScanCudaParams& params);

// The definition, on host pointers and without a workspace; complete after one pass.
Status BinaryScanCudaReference(const BinaryScanCudaParams& params);

// Enqueues a pass on device pointers.
// Errors: those of CheckBinaryScanCuda(); kUnsupported for codes of more than
// kBinaryScanRowBytesMax; kInternal from the launch.
Status BinaryScanCuda(const BinaryScanCudaParams& params, ProspectPass pass, Stream stream);

}  // namespace intarsia::kernels
