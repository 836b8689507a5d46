// ThreadPool: a fixed set of threads that share the iterations of a loop.
//
// Built for the maths of one request at a time: the calling thread works too, and the threads spin
// for some microseconds before they sleep, because a forward pass is hundreds of short loops. Items
// are claimed one by one and nobody waits for a thread that has claimed none, so a thread that
// other programs keep off its core costs its share of the speed and not a time slice a loop.
//
// Thread safety: ParallelFor may be called from several threads; the calls run one after another.
// An iteration must not call ParallelFor of the same pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace intarsia {

class ThreadPool {
 public:
  // `num_threads` counts the calling thread, so 1 starts none. 0: as many as the machine has.
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls `body(index, worker)` once for each index in [0, num_items), in any order, and returns
  // when all calls have. `worker` is in [0, num_threads()); no two concurrent calls share one.
  // `body` must not throw.
  void ParallelFor(int64_t num_items, const std::function<void(int64_t index, int worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace intarsia
