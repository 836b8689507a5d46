#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace intarsia {
namespace {

// How often a thread looks for work before it sleeps: about 20 microseconds.
constexpr int kSpinsMax = 4'000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// A loop is published by opening the door with a new generation. A worker that finds it open goes
// in, and the caller closes it when no item is left, so nobody waits for a worker that has not
// come: where other programs keep it off its core, the caller has done its share. The caller
// returns when the last worker is out.
//
// 1. The fields of a loop are written while the door is closed and nobody is inside, before it
//    opens with release; a worker reads them after going in with acquire.
// 2. What workers wrote is visible to the caller: each leaves with release, the caller sees with
//    acquire that all have.
struct ThreadPool::State {
  // The door: the loop's generation, whether one may go in, and how many workers are inside.
  static constexpr int kGenerationShift = 32;
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kInsideMask = kOpen - 1;

  std::mutex caller_mutex;  // One loop at a time.
  std::mutex sleep_mutex;
  std::condition_variable wake;

  // What all threads write has cache lines of its own.
  alignas(64) std::atomic<uint64_t> door{0};
  std::atomic<int> num_sleeping{0};
  std::atomic<bool> is_stopping{false};
  alignas(64) std::atomic<int64_t> next_item{0};

  // Guarded by the door.
  alignas(64) const std::function<void(int64_t, int)>* body = nullptr;
  int64_t num_items = 0;

  std::vector<std::thread> threads;  // Immutable after construction.

  static uint64_t GenerationOf(uint64_t door) { return door >> kGenerationShift; }

  void RunItems(int worker) {
    for (;;) {
      const int64_t item = next_item.fetch_add(1, std::memory_order_relaxed);
      if (item >= num_items) return;
      (*body)(item, worker);
    }
  }

  // Opens the door for a loop whose fields are written.
  void Open() {
    const uint64_t generation = GenerationOf(door.load(std::memory_order_relaxed)) + 1;
    // Sequentially consistent, like the accesses in Sleep: either a worker about to sleep sees the
    // door open, or we see that it sleeps.
    door.store(generation << kGenerationShift | kOpen);
    if (num_sleeping.load() == 0) return;
    // Under the lock, so that nobody is between looking at the door and falling asleep.
    { const std::scoped_lock lock(sleep_mutex); }
    wake.notify_all();
  }

  // Lets nobody in any more and waits until everybody is out.
  void Close() {
    uint64_t now = door.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int spin = 0; (now & kInsideMask) != 0; ++spin) {
      // A worker that the operating system has taken off its core needs this core more than we do.
      if (spin < kSpinsMax) {
        Pause();
      } else {
        std::this_thread::yield();
      }
      now = door.load(std::memory_order_acquire);
    }
  }

  // Goes in if the door is open, into the loop whose generation `seen` then holds.
  bool Enter(uint64_t* seen) {
    uint64_t now = door.load(std::memory_order_acquire);
    for (;;) {
      *seen = GenerationOf(now);
      if ((now & kOpen) == 0) return false;
      if (door.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
        return true;
      }
    }
  }

  void Leave() { door.fetch_sub(1, std::memory_order_release); }

  // Waits for another loop than the one of generation `seen`, or the end.
  void WaitFor(uint64_t seen) {
    for (int spin = 0; spin < kSpinsMax; ++spin) {
      if (GenerationOf(door.load(std::memory_order_relaxed)) != seen || is_stopping.load()) return;
      Pause();
    }
    Sleep(seen);
  }

  void Sleep(uint64_t seen) {
    std::unique_lock lock(sleep_mutex);
    num_sleeping.fetch_add(1);
    wake.wait(lock, [&] { return GenerationOf(door.load()) != seen || is_stopping.load(); });
    num_sleeping.fetch_sub(1);
  }

  void Work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      WaitFor(seen);
      if (is_stopping.load()) return;
      if (!Enter(&seen)) continue;
      RunItems(worker);
      Leave();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  INTARSIA_CHECK(num_threads >= 0);
  if (num_threads == 0) {
    num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  for (int worker = 1; worker < num_threads; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker] { state->Work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::scoped_lock lock(state_->sleep_mutex);
    state_->is_stopping.store(true);
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::ParallelFor(int64_t num_items, const std::function<void(int64_t, int)>& body) {
  if (num_items <= 0) return;
  const std::scoped_lock caller_lock(state_->caller_mutex);
  if (state_->threads.empty() || num_items == 1) {
    for (int64_t item = 0; item < num_items; ++item) body(item, 0);
    return;
  }
  state_->body = &body;
  state_->num_items = num_items;
  state_->next_item.store(0, std::memory_order_relaxed);
  state_->Open();
  state_->RunItems(0);
  state_->Close();
}

}  // namespace intarsia
