#include "base/cancellable_lock.h"

#include <chrono>
#include <thread>

namespace intarsia {

Result<std::unique_lock<std::mutex>> LockUnlessCancelled(std::mutex* mutex,
                                                         const CancelToken* cancel) {
  std::unique_lock lock(*mutex, std::defer_lock);
  // Not by try_lock_for, which the thread sanitizer of GCC 12 does not see.
  while (!lock.try_lock()) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return lock;
}

}  // namespace intarsia
