// EncoderFiles: what the folder of a BERT model holds, read and checked for both uses of one.
//
// An embedder and a cross-encoder differ in what stands behind the encoder; configuration,
// vocabulary and weights are the same files.
//
// Thread safety: a plain value; the functions may be called concurrently.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/hash.h"
#include "base/result.h"
#include "model/bert.h"
#include "model/embedder.h"
#include "model/embedder_config.h"
#include "model/safetensors.h"
#include "model/wordpiece_tokenizer.h"

namespace intarsia::model {

// Rows of one forward pass: enough for the matrix products to reach their speed, and few enough
// that what a layer writes is still in the cache when the next step reads it.
inline constexpr int64_t kEncoderBatchRowsMax = 1024;

struct EncoderFiles {
  EmbedderConfig config;
  std::unique_ptr<const WordPieceTokenizer> tokenizer;
  std::unique_ptr<const SafetensorsFile> weights;
};

// Reads the configuration and the vocabulary in `folder` and opens its weights.
// Errors: those of Embedder::Load; kCorruption for a vocabulary that is larger than the model's.
Result<EncoderFiles> OpenEncoder(const std::string& folder, const EmbedderOptions& options);

// Packs the weights in the precision that `options` ask for. Errors: those of Bert::Load.
Result<std::unique_ptr<const Bert>> LoadEncoder(const EncoderFiles& files,
                                                const EmbedderOptions& options);

// Adds what an encoder's outputs depend on to the digest of a model that is made of it.
void AddEncoder(const EncoderFiles& files, DigestBuilder* digest);

}  // namespace intarsia::model
