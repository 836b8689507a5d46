#include "engine/model_registry.h"

#include <utility>

#include "base/file.h"
#include "kernels/int8_matrix.h"

namespace intarsia::engine {
namespace {

Status WithRemedy(const Status& status, const storage::ModelInfo& info) {
  return Status(status.code(), "model " + info.name + ": " + std::string(status.message()) +
                                   "; put the file back, or DROP MODEL and CREATE MODEL again");
}

Status CheckDigest(const Digest& found, const storage::ModelInfo& info) {
  if (found == info.weights_digest) return Status::Ok();
  return WithRemedy(
      Status(StatusCode::kCorruption, "is no longer the file that was registered: " + info.path),
      info);
}

// The digest of a model file. Reading 500 MB takes about half a second.
Digest DigestOfFile(const model::GgufFile& file) { return DigestOf(file.bytes()); }

struct GeneratorParts {
  std::unique_ptr<model::GgufFile> file;
  std::unique_ptr<model::Tokenizer> tokenizer;
};

Result<GeneratorParts> OpenGenerator(const std::string& path) {
  GeneratorParts parts;
  INTARSIA_ASSIGN_OR_RETURN(parts.file, model::GgufFile::Open(path, FileSystem::Local()));
  INTARSIA_ASSIGN_OR_RETURN(parts.tokenizer, model::LoadTokenizer(*parts.file));
  return parts;
}

// A tokenizer that knows more or fewer tokens than the model belongs to another one.
Status CheckVocabulary(const model::ModelConfig& config, const model::Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() == config.vocab_size) return Status::Ok();
  return Status(StatusCode::kCorruption,
                "the model and its tokenizer differ in their vocabulary: model=" +
                    std::to_string(config.vocab_size) +
                    " tokenizer=" + std::to_string(tokenizer.vocab_size()));
}

// The model among `loaded`, which it joins if it is not there: an EmbeddingModel or a RerankModel,
// of which `encoder` is the part to load.
template <typename Loaded, typename Encoder>
Result<std::shared_ptr<const Loaded>> GetEncoder(
    const storage::ModelInfo& info, std::unique_ptr<Encoder> Loaded::*encoder, ThreadPool* pool,
    std::map<storage::ModelId, std::shared_ptr<const Loaded>>* loaded) {
  if (const auto found = loaded->find(info.id); found != loaded->end()) return found->second;
  Result<std::unique_ptr<Encoder>> opened = Encoder::Load(info.path, {.pool = pool});
  if (!opened.ok()) return WithRemedy(opened.status(), info);
  INTARSIA_RETURN_IF_ERROR(CheckDigest((*opened)->digest(), info));
  auto fresh = std::make_shared<Loaded>();
  fresh->info = info;
  (*fresh).*encoder = *std::move(opened);
  (*loaded)[info.id] = fresh;
  return std::shared_ptr<const Loaded>(std::move(fresh));
}

}  // namespace

Result<kernels::ComputeType> ComputeOf(const storage::ModelInfo& info) {
  const std::string choice = storage::OptionOr(info.parameters, "compute", "auto");
  if (choice == "f32") return kernels::ComputeType::kF32;
  if (choice == "bf16") return kernels::ComputeType::kBf16;
  if (choice == "int8") {
    if (kernels::HasFastInt8()) return kernels::ComputeType::kInt8;
    return Status(StatusCode::kUnsupported,
                  "int8 products gain nothing on this CPU, which has no AVX512_VNNI or has AMX; "
                  "register the model again with compute = 'auto': model=" +
                      info.name);
  }
  return kernels::HasFastBf16() ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
}

model::CudaCompute DeviceComputeOf(const storage::ModelInfo& info) {
  return storage::OptionOr(info.parameters, "compute", "auto") == "fp8" ? model::CudaCompute::kFp8
                                                                        : model::CudaCompute::kBf16;
}

Result<storage::ModelInfo> ModelRegistry::Inspect(const std::string& path,
                                                  storage::ModelType type) const {
  storage::ModelInfo info;
  info.type = type;
  info.path = path;
  if (type == storage::ModelType::kEmbedding) {
    INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<model::Embedder> embedder,
                              model::Embedder::Load(path, {.pool = pool_}));
    info.weights_digest = embedder->digest();
    info.architecture = "bert";
    info.parameters["dimension"] = std::to_string(embedder->dimension());
    info.parameters["max_tokens"] = std::to_string(embedder->max_tokens());
    return info;
  }
  if (type == storage::ModelType::kRerank) {
    INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<model::CrossEncoder> encoder,
                              model::CrossEncoder::Load(path, {.pool = pool_}));
    info.weights_digest = encoder->digest();
    info.architecture = "bert";
    info.parameters["max_tokens"] = std::to_string(encoder->max_tokens());
    return info;
  }
  INTARSIA_ASSIGN_OR_RETURN(const GeneratorParts parts, OpenGenerator(path));
  INTARSIA_ASSIGN_OR_RETURN(const model::ModelConfig config,
                            model::ModelConfig::FromGguf(*parts.file));
  INTARSIA_RETURN_IF_ERROR(CheckVocabulary(config, *parts.tokenizer));
  INTARSIA_ASSIGN_OR_RETURN(const model::ChatFormat chat,
                            model::ChatFormat::FromGguf(*parts.file, *parts.tokenizer));
  info.weights_digest = DigestOfFile(*parts.file);
  info.architecture = config.architecture;
  info.parameters["name"] = config.name;
  info.parameters["layers"] = std::to_string(config.num_layers);
  info.parameters["hidden_size"] = std::to_string(config.hidden_size);
  info.parameters["context_length"] = std::to_string(config.context_length);
  info.parameters["file_bytes"] = std::to_string(parts.file->bytes().size());
  if (!chat.notice().empty()) info.parameters["notice"] = chat.notice();
  return info;
}

Result<std::shared_ptr<const Generator>> ModelRegistry::GetGenerator(
    const storage::ModelInfo& info) {
  const std::scoped_lock lock(mutex_);
  if (const auto found = generators_.find(info.id); found != generators_.end()) {
    if (!found->second->file->CheckUnchanged().ok()) {
      // Its mapped weights may be other ones or none by now. Loading says whether they are.
      generators_.erase(found);
    } else if (found->second->info != info) {
      auto renewed = std::make_shared<Generator>(*found->second);
      renewed->info = info;
      found->second = renewed;
      return std::shared_ptr<const Generator>(std::move(renewed));
    } else {
      return found->second;
    }
  }
  auto parts = OpenGenerator(info.path);
  if (!parts.ok()) return WithRemedy(parts.status(), info);
  auto generator = std::make_shared<Generator>();
  generator->info = info;
  generator->file = std::move(parts->file);
  generator->tokenizer = std::move(parts->tokenizer);
  INTARSIA_RETURN_IF_ERROR(CheckDigest(DigestOfFile(*generator->file), info));
  INTARSIA_ASSIGN_OR_RETURN(model::ChatFormat chat,
                            model::ChatFormat::FromGguf(*generator->file, *generator->tokenizer));
  generator->chat = std::make_unique<model::ChatFormat>(std::move(chat));
  INTARSIA_ASSIGN_OR_RETURN(const kernels::ComputeType compute, ComputeOf(info));
  INTARSIA_ASSIGN_OR_RETURN(
      generator->transformer,
      model::Transformer::Load(*generator->file, {.compute = compute}, pool_));
  generators_[info.id] = generator;
  return std::shared_ptr<const Generator>(std::move(generator));
}

Result<std::shared_ptr<const EmbeddingModel>> ModelRegistry::GetEmbedder(
    const storage::ModelInfo& info) {
  const std::scoped_lock lock(mutex_);
  return GetEncoder(info, &EmbeddingModel::embedder, pool_, &embedders_);
}

Result<std::shared_ptr<const RerankModel>> ModelRegistry::GetReranker(
    const storage::ModelInfo& info) {
  const std::scoped_lock lock(mutex_);
  return GetEncoder(info, &RerankModel::encoder, pool_, &rerankers_);
}

Result<std::shared_ptr<const model::Tokenizer>> ModelRegistry::GetTokenizer(
    const storage::ModelInfo& info) {
  const std::scoped_lock lock(mutex_);
  if (const auto found = generators_.find(info.id); found != generators_.end()) {
    // Shares the generator's lifetime.
    return std::shared_ptr<const model::Tokenizer>(found->second, found->second->tokenizer.get());
  }
  if (const auto found = tokenizers_.find(info.id); found != tokenizers_.end()) {
    return found->second;
  }
  auto parts = OpenGenerator(info.path);
  if (!parts.ok()) return WithRemedy(parts.status(), info);
  const std::shared_ptr<const model::Tokenizer> tokenizer = std::move(parts->tokenizer);
  tokenizers_[info.id] = tokenizer;
  return tokenizer;
}

void ModelRegistry::Forget(storage::ModelId id) {
  const std::scoped_lock lock(mutex_);
  generators_.erase(id);
  embedders_.erase(id);
  rerankers_.erase(id);
  tokenizers_.erase(id);
}

model::TransformerMemory ModelRegistry::GeneratorMemory() const {
  const std::scoped_lock lock(mutex_);
  model::TransformerMemory memory;
  for (const auto& [id, generator] : generators_) {
    memory.packed_bytes += generator->transformer->memory().packed_bytes;
    memory.mapped_bytes += generator->transformer->memory().mapped_bytes;
  }
  return memory;
}

}  // namespace intarsia::engine
