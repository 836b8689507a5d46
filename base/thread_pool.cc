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

// A loop is published by raising `generation`. Its fields are written before that, with release,
// and read after it is seen, with acquire; nobody touches them again until every worker has raised
// `num_finished`, so a slow worker can never see the next loop's body with this loop's counter.
struct ThreadPool::State {
  std::mutex caller_mutex;  // One loop at a time.
  std::mutex sleep_mutex;
  std::condition_variable wake;
  std::atomic<int64_t> generation{0};
  std::atomic<int> num_finished{0};
  std::atomic<bool> is_stopping{false};

  // Guarded by the protocol above.
  const std::function<void(int64_t, int)>* body = nullptr;
  int64_t num_items = 0;
  std::atomic<int64_t> next_item{0};

  std::vector<std::thread> threads;  // Immutable after construction.

  void RunItems(int worker) {
    for (;;) {
      const int64_t item = next_item.fetch_add(1, std::memory_order_relaxed);
      if (item >= num_items) return;
      (*body)(item, worker);
    }
  }

  void WaitFor(int64_t seen) {
    for (int spin = 0; spin < kSpinsMax; ++spin) {
      if (generation.load(std::memory_order_acquire) != seen || is_stopping.load()) return;
      Pause();
    }
    std::unique_lock lock(sleep_mutex);
    wake.wait(lock, [&] {
      return generation.load(std::memory_order_acquire) != seen || is_stopping.load();
    });
  }

  void Work(int worker) {
    int64_t seen = 0;
    for (;;) {
      WaitFor(seen);
      if (is_stopping.load()) return;
      seen = generation.load(std::memory_order_acquire);
      RunItems(worker);
      num_finished.fetch_add(1, std::memory_order_release);
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
  state_->num_finished.store(0, std::memory_order_relaxed);
  {
    // Under the lock, so that a thread about to sleep cannot miss the new generation.
    const std::scoped_lock lock(state_->sleep_mutex);
    state_->generation.fetch_add(1, std::memory_order_release);
  }
  state_->wake.notify_all();
  state_->RunItems(0);
  const int num_workers = static_cast<int>(state_->threads.size());
  for (int spin = 0; state_->num_finished.load(std::memory_order_acquire) < num_workers; ++spin) {
    // A worker that the operating system has taken off its core needs this core more than we do.
    if (spin < kSpinsMax) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace intarsia
