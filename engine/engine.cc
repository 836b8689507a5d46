#include "engine/engine.h"

#include <utility>

#include "engine/kv_identity.h"
#include "query/settings.h"

namespace intarsia::engine {

Engine::Engine(std::unique_ptr<TextIndexer> text_indexer,
               std::unique_ptr<storage::Database> database, const EngineOptions& options)
    : file_system_(options.file_system),
      text_indexer_(std::move(text_indexer)),
      database_(std::move(database)),
      pool_(options.num_threads),
      models_(&pool_),
      retriever_(database_.get(), &pool_, options.file_system, options.vectors, options.devices),
      backends_(options.devices, &pool_, database_->kv()),
      kv_(database_.get(), &backends_) {}

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& path,
                                             const EngineOptions& options) {
  storage::DatabaseOptions database_options;
  database_options.access = options.access;
  database_options.damaged_tail = options.damaged_tail;
  database_options.program = options.program;
  database_options.file_system = options.file_system;
  database_options.clock = options.clock;
  // What SHOW SETTINGS says before anybody sets it.
  database_options.kv_bytes_max = query::Settings().GetInteger("kv.disk_bytes_max");
  database_options.kv_memory_bytes_max = query::Settings().GetInteger("kv.memory_bytes_max");
  auto text_indexer = std::make_unique<TextIndexer>();
  database_options.chunk_indexer = text_indexer.get();
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<storage::Database> database,
                            storage::Database::Open(path, database_options));
  INTARSIA_ASSIGN_OR_RETURN(const auto collections, database->Read().ListCollections());
  for (const storage::CollectionInfo& collection : collections) {
    database->kv()->SetTtl(collection.id, KvTtlOf(collection));
  }
  std::unique_ptr<Engine> engine(new Engine(std::move(text_indexer), std::move(database), options));
  engine->backends_.SetBudgets(
      {.kv_bytes_max = query::Settings().GetInteger(kDeviceKvBytesMax),
       .cache_bytes_max = query::Settings().GetInteger(kDeviceCacheBytesMax)});
  engine->retriever_.device_codes()->SetBytesMax(query::Settings().GetInteger(kDeviceCodeBytesMax));
  return engine;
}

}  // namespace intarsia::engine
