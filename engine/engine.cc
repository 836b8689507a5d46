#include "engine/engine.h"

#include <utility>

namespace intarsia::engine {

Engine::Engine(std::unique_ptr<storage::Database> database, int num_threads)
    : database_(std::move(database)),
      pool_(num_threads),
      models_(&pool_),
      retriever_(database_.get(), &pool_),
      kv_(database_.get()) {}

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& path,
                                             const EngineOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(
      std::unique_ptr<storage::Database> database,
      storage::Database::Open(path, {.access = options.access, .program = options.program}));
  return std::unique_ptr<Engine>(new Engine(std::move(database), options.num_threads));
}

}  // namespace intarsia::engine
