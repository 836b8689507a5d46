#include "tests/kernels/emulation/emulated_block.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/kernels/emulation/emulation.h"

// Saves the registers that a callee keeps, and the stack pointer in *saved; goes on with another
// stack where it was left by the same function.
extern "C" void intarsia_switch_stack(void** saved, void* stack_pointer);
asm(R"(
.globl intarsia_switch_stack
intarsia_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace intarsia::emulation {
namespace {

constexpr size_t kStackBytes = size_t{128} << 10;
constexpr uint32_t kFirstAddress = 1024;
constexpr uintptr_t kSharedAlignment = 1024;
constexpr int64_t kIdleSwitchesMax = 3'000'000;  // of a block that can get on

thread_local EmulatedBlock* current_block = nullptr;

// The stack of thread `index` of whichever block runs: they are used again and again, because fresh
// memory costs more than a small kernel does.
unsigned char* StackOf(size_t index) {
  static thread_local std::vector<std::unique_ptr<unsigned char[]>> stacks;
  while (stacks.size() <= index) {
    stacks.push_back(std::make_unique_for_overwrite<unsigned char[]>(kStackBytes));
  }
  return stacks[index].get();
}

}  // namespace

EmulatedDevice& CurrentDevice() {
  static thread_local EmulatedDevice device;
  return device;
}

EmulatedBlock::EmulatedBlock(const BlockShape& shape, int32_t index)
    : shape_(shape),
      index_(index),
      memory_(static_cast<size_t>(shape.shared_bytes) + kSharedAlignment, 0xff) {
  const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
  shared_ = memory_.data() + (kSharedAlignment - begin % kSharedAlignment) % kSharedAlignment;
}

EmulatedBlock& EmulatedBlock::Current() {
  INTARSIA_CHECK(current_block != nullptr);
  return *current_block;
}

void EmulatedBlock::Run(const std::function<void()>& body) {
  INTARSIA_CHECK(current_block == nullptr);
  current_block = this;
  body_ = &body;
  num_running_ = shape_.num_threads;
  threads_.resize(static_cast<size_t>(shape_.num_threads));
  for (size_t index = 0; index < threads_.size(); ++index) {
    const auto top = reinterpret_cast<uintptr_t>(StackOf(index) + kStackBytes) & ~uintptr_t{15};
    auto* slot = reinterpret_cast<void**>(top);
    *--slot = nullptr;  // RunThread does not return.
    *--slot = reinterpret_cast<void*>(&RunThread);
    for (int i = 0; i < 6; ++i) *--slot = nullptr;
    threads_[index].stack_pointer = slot;
  }
  thread_ = 0;
  intarsia_switch_stack(&main_stack_pointer_, threads_[0].stack_pointer);
  current_block = nullptr;
}

void EmulatedBlock::RunThread() {
  EmulatedBlock& block = Current();
  (*block.body_)();
  Thread& self = block.threads_[static_cast<size_t>(block.thread_)];
  self.is_done = true;
  block.num_idle_switches_ = 0;
  --block.num_running_;
  block.SwitchFrom(&self.stack_pointer);
}

void EmulatedBlock::Yield() {
  INTARSIA_CHECK(++num_idle_switches_ < kIdleSwitchesMax);  // Else they wait in a circle.
  SwitchFrom(&threads_[static_cast<size_t>(thread_)].stack_pointer);
}

void EmulatedBlock::SwitchFrom(void** saved_stack_pointer) {
  if (num_running_ == 0) {
    intarsia_switch_stack(saved_stack_pointer, main_stack_pointer_);
    return;
  }
  const int32_t before = thread_;
  do {
    thread_ = (thread_ + 1) % shape_.num_threads;
    if (thread_ == 0) DoSomeOfLater();
  } while (threads_[static_cast<size_t>(thread_)].is_done);
  if (thread_ == before) return;
  intarsia_switch_stack(saved_stack_pointer, threads_[static_cast<size_t>(thread_)].stack_pointer);
}

void EmulatedBlock::DoSomeOfLater() {
  random_ = random_ * 1664525U + 1013904223U;
  if (later_.empty() || (random_ >> 16) % 3 != 0) return;
  const auto which = static_cast<std::ptrdiff_t>((random_ >> 20) % later_.size());
  const std::function<void()> work = std::move(later_[static_cast<size_t>(which)]);
  later_.erase(later_.begin() + which);
  num_idle_switches_ = 0;
  work();
}

uint32_t EmulatedBlock::AddressOf(const void* pointer) const {
  return kFirstAddress +
         static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - shared_);
}

unsigned char* EmulatedBlock::At(uint32_t address, int32_t num_bytes) {
  const int64_t offset = int64_t{address} - kFirstAddress;
  INTARSIA_CHECK(offset >= 0 && offset + num_bytes <= shape_.shared_bytes);
  return shared_ + offset;
}

void EmulatedBlock::WaitUntil(const std::function<bool()>& is_over) {
  while (!is_over()) Yield();
  num_idle_switches_ = 0;
}

void EmulatedBlock::Meet(int32_t kind, int32_t group, int32_t num_threads, int32_t rank,
                         void* brought, const std::function<void(void* const*)>& act) {
  Meeting& meeting = meetings_[{kind, group}];
  meeting.brought.resize(static_cast<size_t>(num_threads));
  meeting.brought[static_cast<size_t>(rank)] = brought;
  const uint64_t number = meeting.number;
  if (++meeting.num_present == num_threads) {
    act(meeting.brought.data());
    meeting.num_present = 0;
    ++meeting.number;
    num_idle_switches_ = 0;
    return;
  }
  while (meeting.number == number) Yield();
}

std::vector<std::vector<std::function<void()>>>& EmulatedBlock::copies() {
  return threads_[static_cast<size_t>(thread_)].copies;
}

}  // namespace intarsia::emulation
