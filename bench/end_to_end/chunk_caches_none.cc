// MakeDeviceCaches of a program that is built without CUDA.
#include "bench/end_to_end/chunk_caches.h"

namespace intarsia::bench {

Result<std::unique_ptr<ChunkCaches>> MakeDeviceCaches(const model::GgufFile&, int32_t,
                                                      std::span<const int32_t>, ThreadPool*) {
  return Status(StatusCode::kUnsupported,
                "this program is built without CUDA; build it with the preset cuda");
}

}  // namespace intarsia::bench
