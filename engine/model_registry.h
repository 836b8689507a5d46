// ModelRegistry: the models that a database names, loaded when they are first used.
//
// Registering a model opens and checks it; loading packs its weights, which takes seconds, so it
// waits for the first statement that needs them and is done once.
//
// Thread safety: thread-safe. Loading one model holds up others that are being loaded.
// Lifetime: the pool must outlive it; a loaded model lives until its last
// shared_ptr goes, also when it is dropped meanwhile.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/packed_matrix.h"
#include "model/chat_format.h"
#include "model/cross_encoder.h"
#include "model/cuda_transformer.h"
#include "model/embedder.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "storage/catalog.h"

namespace intarsia::engine {

// A language model with all that turns text into its tokens and back. When the catalog says
// something new about a model, a new Generator shares what is loaded with the old one.
struct Generator {
  storage::ModelInfo info;
  std::shared_ptr<model::GgufFile> file;
  std::shared_ptr<model::Tokenizer> tokenizer;
  std::shared_ptr<model::ChatFormat> chat;
  std::shared_ptr<model::Transformer> transformer;
};

struct EmbeddingModel {
  storage::ModelInfo info;
  std::unique_ptr<model::Embedder> embedder;
};

struct RerankModel {
  storage::ModelInfo info;
  std::unique_ptr<model::CrossEncoder> encoder;
};

// How a model's products are computed on the CPU: its option `compute`, `auto` without one and for
// fp8, which is for devices.
// Errors: kUnsupported if this CPU gains nothing from int8, with the remedy.
Result<kernels::ComputeType> ComputeOf(const storage::ModelInfo& info);

// The same on a device: fp8 if the option says so, else bf16.
model::CudaCompute DeviceComputeOf(const storage::ModelInfo& info);

class ModelRegistry {
 public:
  explicit ModelRegistry(ThreadPool* pool) : pool_(pool) {}

  // What a model file or folder is, without keeping it: for CREATE MODEL. Name and id are empty.
  // Errors: those of GgufFile::Open, ModelConfig::FromGguf, LoadTokenizer, Embedder::Load,
  // CrossEncoder::Load.
  Result<storage::ModelInfo> Inspect(const std::string& path, storage::ModelType type) const;

  // A generator whose file was written to since it was loaded is loaded again.
  // Errors: kNotFound, with the path, if the file is gone; kCorruption if it is no longer the one
  // that was registered; what loading returns.
  Result<std::shared_ptr<const Generator>> GetGenerator(const storage::ModelInfo& info);
  Result<std::shared_ptr<const EmbeddingModel>> GetEmbedder(const storage::ModelInfo& info);

  Result<std::shared_ptr<const RerankModel>> GetReranker(const storage::ModelInfo& info);

  // The tokenizer of a generator, without loading its weights.
  Result<std::shared_ptr<const model::Tokenizer>> GetTokenizer(const storage::ModelInfo& info);

  // Forgets a dropped model.
  void Forget(storage::ModelId id);

  // Bytes that loaded models hold: packed weights, and files read in place.
  model::TransformerMemory GeneratorMemory() const;

 private:
  ThreadPool* const pool_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::map<storage::ModelId, std::shared_ptr<const Generator>> generators_;
  std::map<storage::ModelId, std::shared_ptr<const EmbeddingModel>> embedders_;
  std::map<storage::ModelId, std::shared_ptr<const RerankModel>> rerankers_;
  std::map<storage::ModelId, std::shared_ptr<const model::Tokenizer>> tokenizers_;
};

}  // namespace intarsia::engine
