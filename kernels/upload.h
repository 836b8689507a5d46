// Upload: small arrays from pinned memory to a device, read by its multiprocessors.
//
// A copy of the driver's goes through the copy engine, where it waits behind the large copies that
// another stream has enqueued there; the work behind it then waits as long. A kernel does not.
// Small means below a megabyte: one block reads at a few GB/s of the link.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

struct UploadParams {
  const void* source = nullptr;  // pinned, 16-byte aligned; unchanged until the upload is done
  void* target = nullptr;        // on the device, 16-byte aligned
  int64_t num_bytes = 0;         // a multiple of 4
};

// Enqueues the copy and returns without waiting.
// Errors: kInvalidArgument for a null or misaligned pointer or a bad size; kInternal if the launch
// fails.
Status UploadCuda(const UploadParams& params, Stream stream);

}  // namespace intarsia::kernels
