// FirstError: the error of work that several threads share.
//
// Thread safety: each worker sets its own slot; Get is called when all are done.
#pragma once

#include <utility>
#include <vector>

#include "base/status.h"

namespace intarsia {

class FirstError {
 public:
  explicit FirstError(int num_workers) : errors_(static_cast<size_t>(num_workers)) {}

  // Keeps the worker's first error. REQUIRES: 0 <= worker < num_workers.
  void Set(int worker, Status status) {
    Status& slot = errors_[static_cast<size_t>(worker)];
    if (slot.ok() && !status.ok()) slot = std::move(status);
  }
  // OK, or the error of the first worker that had one.
  Status Get() const {
    for (const Status& error : errors_) INTARSIA_RETURN_IF_ERROR(error);
    return Status::Ok();
  }

 private:
  std::vector<Status> errors_;
};

}  // namespace intarsia
