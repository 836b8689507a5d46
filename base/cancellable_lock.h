// LockUnlessCancelled(): a mutex that is held for seconds, taken by who may be cancelled meanwhile.
//
// Thread safety: may be called concurrently.
#pragma once

#include <mutex>

#include "base/cancel.h"
#include "base/result.h"

namespace intarsia {

// Waits for `mutex` and holds it as long as the result lives. `cancel` may be null and is looked at
// a hundred times a second. Errors: those of CancelToken::Check while others hold it.
// Lifetime: the mutex must outlive the result.
Result<std::unique_lock<std::mutex>> LockUnlessCancelled(std::mutex* mutex,
                                                         const CancelToken* cancel);

}  // namespace intarsia
