// EmulatedBlock: the threads of one block of a CUDA kernel, run in turn on the calling thread.
//
// It lets a machine without a device execute the kernels themselves, compiled as C++: the headers
// beside this one stand in for CUDA's and for the ones of kernels/ that wrap instructions. It is
// made to find errors rather than to be fast: shared memory starts as NaN, and what the hardware
// does asynchronously (copies, products) happens as late as the kernel's own waits permit. It knows
// nothing of memory ordering, register limits or bank conflicts: those need a device.
//
// Each thread of the block has a stack of its own and runs until it has to wait for others.
//
// Thread safety: owned by one thread.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace intarsia::emulation {

// The device that kernels see.
struct EmulatedDevice {
  int32_t capability = 80;  // 10 * major + minor
  int32_t num_multiprocessors = 5;
};
EmulatedDevice& CurrentDevice();

struct BlockShape {
  int32_t num_blocks = 0;
  int32_t num_threads = 0;
  int32_t shared_bytes = 0;
  int32_t width = 0;  // of a grid of two dimensions; 0: one dimension

  int32_t row_blocks() const { return width > 0 ? width : num_blocks; }
};

class EmulatedBlock {
 public:
  EmulatedBlock(const BlockShape& shape, int32_t index);

  // The block whose threads run now: what threadIdx and the like refer to.
  static EmulatedBlock& Current();

  // Runs `body` once for every thread. Aborts if the threads wait for each other in a circle.
  void Run(const std::function<void()>& body);

  const BlockShape& shape() const { return shape_; }
  int32_t index() const { return index_; }
  int32_t thread() const { return thread_; }

  unsigned char* shared() { return shared_; }
  // Shared addresses are those of a device: they start at 1,024. Aborts out of bounds.
  uint32_t AddressOf(const void* pointer) const;
  unsigned char* At(uint32_t address, int32_t num_bytes);

  // Lets the other threads run until `is_over` holds.
  void WaitUntil(const std::function<bool()>& is_over);

  // Waits until `num_threads` threads have come to meeting (kind, group) with different ranks; the
  // last of them calls `act` with what each brought, by rank.
  void Meet(int32_t kind, int32_t group, int32_t num_threads, int32_t rank, void* brought,
            const std::function<void(void* const*)>& act);

  // Work that is done at some time while threads wait, in any order.
  void DoLater(std::function<void()> work) { later_.push_back(std::move(work)); }

  // Of the calling thread: groups of asynchronous copies, the last of which is open.
  std::vector<std::vector<std::function<void()>>>& copies();
  // For what a header adds to a block.
  std::any& extension() { return extension_; }

 private:
  struct Thread {
    void* stack_pointer = nullptr;
    bool is_done = false;
    std::vector<std::vector<std::function<void()>>> copies{1};
  };
  struct Meeting {
    int32_t num_present = 0;
    uint64_t number = 0;
    std::vector<void*> brought;
  };

  static void RunThread();
  void Yield();
  void SwitchFrom(void** saved_stack_pointer);
  void DoSomeOfLater();

  const BlockShape shape_;
  const int32_t index_;
  int32_t thread_ = 0;
  int32_t num_running_ = 0;
  int64_t num_idle_switches_ = 0;
  uint32_t random_ = 1;
  const std::function<void()>* body_ = nullptr;
  void* main_stack_pointer_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned char> memory_;
  unsigned char* shared_ = nullptr;  // in memory_, aligned to 1,024 bytes
  std::map<std::pair<int32_t, int32_t>, Meeting> meetings_;
  std::vector<std::function<void()>> later_;
  std::any extension_;
};

}  // namespace intarsia::emulation
