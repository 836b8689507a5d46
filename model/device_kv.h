// DeviceKvPool: pages on a device for the keys and values of requests; DeviceKv: those of one.
//
// All pages are taken from the device when the pool is created, which is the hard budget: a request
// that does not fit is refused and nothing is evicted behind anybody's back. A page holds
// kPageTokens tokens of every layer, keys and values. Each request has a slot with its page table
// on the device, at a place that does not move while the request lives.
//
// Giving pages back does not wait for the device: the stream that gets them next is held back
// until the stream that had them has come as far as it was when it gave them back.
//
// Thread safety: the pool is thread-safe; a DeviceKv is owned by one request.
// Lifetime: the pool must outlive its DeviceKvs, and their streams the pool's next use of their
// pages.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/paged_kv.h"
#include "kernels/stream.h"
#include "model/model_config.h"

namespace intarsia::model {

struct DeviceKvState;  // What the pool and its requests share; in device_kv.cc.

// The placed keys and values of one request, for every layer.
class DeviceKv {
 public:
  // For DeviceKvPool::Allocate.
  DeviceKv(DeviceKvState* state, int32_t slot, kernels::Stream stream)
      : state_(state), slot_(slot), stream_(stream) {}
  ~DeviceKv();
  DeviceKv(const DeviceKv&) = delete;
  DeviceKv& operator=(const DeviceKv&) = delete;

  // Pages for positions [0, num_tokens); never gives any back.
  // Errors: kResourceExhausted with the numbers of pages, kInternal if the device takes no copy;
  // then nothing has changed but the page table beyond capacity().
  Status Extend(int64_t num_tokens);

  // The view that kernels take. Its num_tokens is capacity().
  kernels::PagedKvLayer layer(int32_t index) const;
  // Positions that have a page.
  int64_t capacity() const { return static_cast<int64_t>(pages_.size()) * kernels::kPageTokens; }
  std::span<const int32_t> pages() const { return pages_; }
  // On the device; fixed for the life of the request.
  const int32_t* page_table() const;

 private:
  DeviceKvState* const state_;
  const int32_t slot_;
  const kernels::Stream stream_;
  std::vector<int32_t> pages_;
};

struct DeviceKvPoolOptions {
  // Upper bound of the pool's memory on the device, page tables included. Must hold one page.
  int64_t budget_bytes = 0;
  int32_t num_requests_max = 64;
};

class DeviceKvPool {
 public:
  // Allocates everything on `stream`.
  // Errors: kInvalidArgument for a budget that holds no page, kResourceExhausted.
  static Result<std::unique_ptr<DeviceKvPool>> Create(const ModelConfig& config,
                                                      const DeviceKvPoolOptions& options,
                                                      kernels::Stream stream);

  // For positions [0, num_tokens) of a request whose work runs on `stream`.
  // Errors: kInvalidArgument for a count < 1; kResourceExhausted with the numbers, if pages or
  // slots are all taken.
  Result<std::unique_ptr<DeviceKv>> Allocate(int64_t num_tokens, kernels::Stream stream);

  ~DeviceKvPool();
  DeviceKvPool(const DeviceKvPool&) = delete;
  DeviceKvPool& operator=(const DeviceKvPool&) = delete;

  int64_t num_pages() const;
  int64_t num_free_pages() const;
  int64_t num_bytes() const;  // on the device
  // The pages of a layer as seen through any page table on the device, for `num_tokens` tokens.
  kernels::PagedKvLayer layer(int32_t index, const int32_t* page_table, int64_t num_tokens) const;

 private:
  explicit DeviceKvPool(std::unique_ptr<DeviceKvState> state);
  const std::unique_ptr<DeviceKvState> state_;
};

}  // namespace intarsia::model
