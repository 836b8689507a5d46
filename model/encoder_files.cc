#include "model/encoder_files.h"

#include <bit>

#include "base/file.h"
#include "kernels/packed_matrix.h"

namespace intarsia::model {
namespace {

constexpr int64_t kVocabularyBytesMax = int64_t{64} << 20;

}  // namespace

Result<EncoderFiles> OpenEncoder(const std::string& folder, const EmbedderOptions& options) {
  FileSystem* const file_system =
      options.file_system != nullptr ? options.file_system : FileSystem::Local();
  EncoderFiles files;
  INTARSIA_ASSIGN_OR_RETURN(files.config, ReadEmbedderConfig(folder, file_system));
  INTARSIA_ASSIGN_OR_RETURN(const std::string vocabulary,
                            file_system->ReadAll(folder + "/vocab.txt", kVocabularyBytesMax));
  INTARSIA_ASSIGN_OR_RETURN(files.tokenizer,
                            WordPieceTokenizer::Load(vocabulary, files.config.tokenizer));
  if (files.tokenizer->vocab_size() > files.config.bert.vocab_size) {
    return Status(StatusCode::kCorruption,
                  "vocab.txt has more tokens than the model: folder=" + folder +
                      " tokens=" + std::to_string(files.tokenizer->vocab_size()) +
                      " model=" + std::to_string(files.config.bert.vocab_size));
  }
  INTARSIA_ASSIGN_OR_RETURN(files.weights,
                            SafetensorsFile::Open(folder + "/model.safetensors", file_system));
  return files;
}

Result<std::unique_ptr<const Bert>> LoadEncoder(const EncoderFiles& files,
                                                const EmbedderOptions& options) {
  const bool is_bf16 = options.precision == EmbedderPrecision::kFastest && kernels::HasFastBf16();
  INTARSIA_ASSIGN_OR_RETURN(
      std::unique_ptr<const Bert> bert,
      Bert::Load(*files.weights, files.config.bert,
                 is_bf16 ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32, options.pool));
  return bert;
}

void AddEncoder(const EncoderFiles& files, DigestBuilder* digest) {
  const BertConfig& config = files.config.bert;
  digest->Add(files.weights->bytes())
      .Add(files.tokenizer->digest().view())
      .Add(int64_t{config.num_layers})
      .Add(int64_t{config.num_heads})
      .Add(int64_t{std::bit_cast<int32_t>(config.norm_epsilon)})
      .Add(static_cast<int64_t>(config.activation));
}

}  // namespace intarsia::model
