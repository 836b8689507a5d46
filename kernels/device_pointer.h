// Device pointers as the checks of kernels see them: numbers with an alignment, never read.
#pragma once

#include <cstdint>

namespace intarsia::kernels {

// What a 16-byte access needs.
inline constexpr uintptr_t kVectorBytes = 16;

inline bool IsNullOrVectorAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0;
}

inline bool IsVectorAligned(const void* pointer) {
  return pointer != nullptr && IsNullOrVectorAligned(pointer);
}

}  // namespace intarsia::kernels
