#include "model/device_kv.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/device.h"

namespace intarsia::model {

struct DeviceKvState {
  // Immutable after Create.
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int64_t num_pages = 0;
  int64_t page_bytes = 0;                 // of the budget, with its part of the page tables
  kernels::DeviceBuffer keys_and_values;  // [num_layers, 2, num_pages, page]
  kernels::DeviceBuffer page_tables;      // [num_requests_max, num_pages]

  std::mutex mutex;
  // Guarded by mutex.
  std::vector<int32_t> free_pages;
  std::vector<int32_t> free_slots;
  std::vector<int32_t> last_slot_of_page;        // -1: never used
  std::vector<kernels::DeviceEvent> given_back;  // per slot: the last use of its pages

  int64_t page_elements() const { return kernels::PageElements(num_kv_heads, head_dim); }
  kernels::PagedKvLayer layer(int32_t index, const int32_t* page_table, int64_t num_tokens) const;
};

kernels::PagedKvLayer DeviceKvState::layer(int32_t index, const int32_t* page_table,
                                           int64_t num_tokens) const {
  INTARSIA_CHECK(index >= 0 && index < num_layers);
  const int64_t half_elements = num_pages * page_elements();
  uint16_t* const k = keys_and_values.as<uint16_t>() + 2 * index * half_elements;
  return {.k_pages = k,
          .v_pages = k + half_elements,
          .page_table = page_table,
          .num_pages = num_pages,
          .num_tokens = num_tokens,
          .num_kv_heads = num_kv_heads,
          .head_dim = head_dim};
}

namespace {

constexpr int64_t kBytesPerElement = 2;
constexpr int32_t kRequestsMax = 4096;

// Holds `stream` back until whoever had `pages` last is done with them. Called with the mutex held.
Status HoldBackForPages(const DeviceKvState& state, std::span<const int32_t> pages,
                        kernels::Stream stream) {
  std::vector<int32_t> slots;
  for (const int32_t page : pages) {
    const int32_t slot = state.last_slot_of_page[static_cast<size_t>(page)];
    if (slot >= 0 && std::ranges::find(slots, slot) == slots.end()) slots.push_back(slot);
  }
  for (const int32_t slot : slots) {
    INTARSIA_RETURN_IF_ERROR(state.given_back[static_cast<size_t>(slot)].HoldBack(stream));
  }
  return Status::Ok();
}

// Moves `num_wanted` free pages to `pages`.
Status TakePages(DeviceKvState* state, int64_t num_wanted, kernels::Stream stream,
                 std::vector<int32_t>* pages) {
  const std::lock_guard lock(state->mutex);
  const auto num_free = static_cast<int64_t>(state->free_pages.size());
  if (num_wanted > num_free) {
    return Status(StatusCode::kResourceExhausted,
                  "device kv pool: too few free pages: wanted=" + std::to_string(num_wanted) +
                      " free=" + std::to_string(num_free) +
                      " of=" + std::to_string(state->num_pages) + " pages of " +
                      std::to_string(kernels::kPageTokens) + " tokens, which take " +
                      std::to_string(state->page_bytes) + " bytes each");
  }
  const auto first = state->free_pages.end() - num_wanted;
  INTARSIA_RETURN_IF_ERROR(HoldBackForPages(*state, {first, state->free_pages.end()}, stream));
  pages->insert(pages->end(), first, state->free_pages.end());
  state->free_pages.erase(first, state->free_pages.end());
  return Status::Ok();
}

// Undoes TakePages: all of `pages` but the first `num_kept`. Nobody has used them, so that those
// who get them next wait for whom they were to wait for before.
void GiveBackPages(DeviceKvState* state, int64_t num_kept, std::vector<int32_t>* pages) {
  const std::lock_guard lock(state->mutex);
  state->free_pages.insert(state->free_pages.end(), pages->begin() + num_kept, pages->end());
  pages->resize(static_cast<size_t>(num_kept));
}

}  // namespace

DeviceKv::~DeviceKv() {
  const std::lock_guard lock(state_->mutex);
  // Recording fails only on a device that is lost, where nothing will use the pages again.
  state_->given_back[static_cast<size_t>(slot_)].Record(stream_).IgnoreError();
  for (const int32_t page : pages_) {
    state_->last_slot_of_page[static_cast<size_t>(page)] = slot_;
    state_->free_pages.push_back(page);
  }
  state_->free_slots.push_back(slot_);
}

Status DeviceKv::Extend(int64_t num_tokens) {
  const auto num_pages = static_cast<int64_t>(pages_.size());
  if (num_tokens <= capacity()) return Status::Ok();
  // Compared as pages, because a sum of tokens near the largest integer would overflow.
  const int64_t num_wanted = (num_tokens - 1) / kernels::kPageTokens + 1 - num_pages;
  INTARSIA_RETURN_IF_ERROR(TakePages(state_, num_wanted, stream_, &pages_));
  // From pageable memory, which is read before the call returns.
  const Status copied = kernels::CopyToDevice(
      const_cast<int32_t*>(page_table()) + num_pages, pages_.data() + num_pages,
      num_wanted * static_cast<int64_t>(sizeof(int32_t)), stream_);
  if (copied.ok()) return copied;
  GiveBackPages(state_, num_pages, &pages_);
  return Status(copied.code(),
                "device kv pool: the page table takes no pages: " + std::string(copied.message()));
}

kernels::PagedKvLayer DeviceKv::layer(int32_t index) const {
  return state_->layer(index, page_table(), capacity());
}

const int32_t* DeviceKv::page_table() const {
  return state_->page_tables.as<int32_t>() + slot_ * state_->num_pages;
}

DeviceKvPool::DeviceKvPool(std::unique_ptr<DeviceKvState> state) : state_(std::move(state)) {}
DeviceKvPool::~DeviceKvPool() = default;

Result<std::unique_ptr<DeviceKvPool>> DeviceKvPool::Create(const ModelConfig& config,
                                                           const DeviceKvPoolOptions& options,
                                                           kernels::Stream stream) {
  auto state = std::make_unique<DeviceKvState>();
  state->num_layers = config.num_layers;
  state->num_kv_heads = config.num_kv_heads;
  state->head_dim = config.head_dim;
  if (options.num_requests_max < 1 || options.num_requests_max > kRequestsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "device kv pool: bad number of requests: num_requests_max=" +
                      std::to_string(options.num_requests_max) + " want=[1, " +
                      std::to_string(kRequestsMax) + "]");
  }
  const int64_t page_bytes = 2 * config.num_layers * state->page_elements() * kBytesPerElement;
  if (page_bytes < 1) {
    return Status(StatusCode::kInvalidArgument, "device kv pool: the model has no keys and values");
  }
  const int64_t table_bytes = options.num_requests_max * static_cast<int64_t>(sizeof(int32_t));
  state->page_bytes = page_bytes + table_bytes;
  state->num_pages = options.budget_bytes / state->page_bytes;
  if (state->num_pages < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "device kv pool: the budget holds no page: budget_bytes=" +
                      std::to_string(options.budget_bytes) +
                      " page_bytes=" + std::to_string(state->page_bytes));
  }
  INTARSIA_ASSIGN_OR_RETURN(state->keys_and_values,
                            kernels::DeviceBuffer::Allocate(state->num_pages * page_bytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(
      state->page_tables, kernels::DeviceBuffer::Allocate(state->num_pages * table_bytes, stream));
  // So that no other stream can use the memory before it is there.
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream));
  for (int64_t page = state->num_pages; page-- > 0;) {
    state->free_pages.push_back(static_cast<int32_t>(page));
  }
  state->last_slot_of_page.assign(static_cast<size_t>(state->num_pages), -1);
  for (int32_t slot = options.num_requests_max; slot-- > 0;) {
    state->free_slots.push_back(slot);
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent event,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    state->given_back.push_back(std::move(event));
  }
  return std::unique_ptr<DeviceKvPool>(new DeviceKvPool(std::move(state)));
}

Result<std::unique_ptr<DeviceKv>> DeviceKvPool::Allocate(int64_t num_tokens,
                                                         kernels::Stream stream) {
  if (num_tokens < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "device kv pool: bad number of tokens: num_tokens=" + std::to_string(num_tokens));
  }
  int32_t slot = 0;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->free_slots.empty()) {
      return Status(StatusCode::kResourceExhausted, "device kv pool: too many requests: max=" +
                                                        std::to_string(state_->given_back.size()));
    }
    slot = state_->free_slots.back();
    // The slot's page table may still be read for the request that had it.
    INTARSIA_RETURN_IF_ERROR(state_->given_back[static_cast<size_t>(slot)].HoldBack(stream));
    state_->free_slots.pop_back();
  }
  auto kv = std::make_unique<DeviceKv>(state_.get(), slot, stream);
  INTARSIA_RETURN_IF_ERROR(kv->Extend(num_tokens));
  return kv;
}

int64_t DeviceKvPool::num_pages() const { return state_->num_pages; }

int64_t DeviceKvPool::num_free_pages() const {
  const std::lock_guard lock(state_->mutex);
  return static_cast<int64_t>(state_->free_pages.size());
}

int64_t DeviceKvPool::num_bytes() const {
  return state_->keys_and_values.num_bytes() + state_->page_tables.num_bytes();
}

kernels::PagedKvLayer DeviceKvPool::layer(int32_t index, const int32_t* page_table,
                                          int64_t num_tokens) const {
  return state_->layer(index, page_table, num_tokens);
}

}  // namespace intarsia::model
