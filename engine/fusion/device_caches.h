// DeviceCaches: the KV caches that stay on a device between prompts.
//
// What is worth its place is the matter of storage::KvMemory, by the same rule as in the memory of
// the host. A prompt is given sources that say where its caches lie on the device, or where they
// are to be put while they are loaded, so that what comes in costs nothing beside the load itself.
//
// Thread safety: thread-safe; but a lease must be over before the next one, as prompts are that
// share a DeviceFusion.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/memory_source.h"
#include "engine/fusion/prompt.h"
#include "model/model_config.h"
#include "storage/kv_memory.h"

namespace intarsia::engine {

class DeviceCaches {
 public:
  // `memory` is the device's and is never touched by the host. `bytes_max` 0 keeps nothing.
  DeviceCaches(std::shared_ptr<MemorySource> memory, int64_t bytes_max) : caches_(bytes_max) {
    caches_.SetSource(std::move(memory), storage::SourceUse::kRequired);
  }

  // The caches of one prompt while it is run. What was to come in is forgotten unless Keep is
  // called. The work that reads and writes them on the device must be done before it goes.
  class Lease {
   public:
    Lease(DeviceCaches* caches, const Prompt& prompt, const model::ModelConfig& config);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    // The prompt with sources that know their place on the device. Its sources live as long as the
    // lease.
    const Prompt& prompt() const { return prompt_; }
    // Says that all caches were loaded but those of `lost_segments`.
    void Keep(std::span<const size_t> lost_segments);

   private:
    class HeldKv;
    DeviceCaches& caches_;
    Prompt prompt_;
    std::vector<std::unique_ptr<HeldKv>> held_;  // [segments], null where the source is as it was
  };

  // Forgets all caches for which `is_gone` says so.
  void RemoveIf(const std::function<bool(const Digest&)>& is_gone) { caches_.RemoveIf(is_gone); }
  storage::KvMemoryStats stats() const { return caches_.stats(); }

 private:
  storage::KvMemory caches_;
};

}  // namespace intarsia::engine
