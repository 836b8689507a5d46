// Engine: an open database with what it takes to run statements on it.
//
// One directory, one process that writes. Sessions share the engine's models, indexes and caches.
//
// Thread safety: thread-safe.
// Lifetime: outlives its sessions.
#pragma once

#include <memory>
#include <string>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/device_provider.h"
#include "engine/fusion_backends.h"
#include "engine/kv_manager.h"
#include "engine/model_registry.h"
#include "engine/retriever.h"
#include "engine/text_indexer.h"
#include "query/settings.h"
#include "storage/database.h"

namespace intarsia::engine {

struct EngineOptions {
  storage::AccessMode access = storage::AccessMode::kReadWrite;
  storage::DamagedTail damaged_tail = storage::DamagedTail::kRefuse;
  std::string program = "intarsia";  // said to whoever finds the directory locked
  int num_threads = 0;               // 0: as many as the machine has
  // Of documents, KV segments and FORMAT; outlives the engine.
  FileSystem* file_system = FileSystem::Local();
  VectorIndexOptions vectors = {};
  const Clock* clock = Clock::System();      // outlives the engine
  DeviceProvider* devices = LocalDevices();  // outlives the engine
};

inline constexpr const char* kDeviceKvBytesMax = "device.kv_bytes_max";
inline constexpr const char* kDeviceCacheBytesMax = "device.cache_bytes_max";
inline constexpr const char* kDeviceCodeBytesMax = "device.code_bytes_max";

class Engine {
 public:
  // Errors: those of storage::Database::Open.
  static Result<std::unique_ptr<Engine>> Open(const std::string& path,
                                              const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  storage::Database* database() { return database_.get(); }
  FileSystem* file_system() { return file_system_; }
  ThreadPool* pool() { return &pool_; }
  ModelRegistry* models() { return &models_; }
  Retriever* retriever() { return &retriever_; }
  KvManager* kv() { return &kv_; }
  FusionBackends* backends() { return &backends_; }

  // Waits for caches that are being written behind. Errors: kCancelled; what was not written is
  // computed again when it is next needed.
  Status Finish(const CancelToken* cancel) { return kv_.Drain(cancel); }

 private:
  Engine(std::unique_ptr<TextIndexer> text_indexer, std::unique_ptr<storage::Database> database,
         const EngineOptions& options);

  FileSystem* const file_system_;
  const std::unique_ptr<TextIndexer> text_indexer_;  // outlives the database
  const std::unique_ptr<storage::Database> database_;
  ThreadPool pool_;
  ModelRegistry models_;
  Retriever retriever_;
  FusionBackends backends_;
  KvManager kv_;
};

}  // namespace intarsia::engine
