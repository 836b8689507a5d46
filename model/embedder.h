// Embedder: texts to vectors whose inner product says how close their meanings are.
//
// Loads a sentence-transformers folder: a BERT encoder in safetensors with a WordPiece vocabulary,
// mean or CLS pooling and L2 normalisation (all-MiniLM, BGE, Arctic Embed). A text longer than
// max_tokens() is cut there, as the reference implementation does.
//
// Thread safety: immutable after Load; Embed may be called concurrently.
// Lifetime: the thread pool must outlive the embedder.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/result.h"
#include "base/thread_pool.h"

namespace intarsia::model {

// What a text is, for models that were trained with a prompt in front of queries or passages.
enum class TextRole : uint8_t { kDocument = 0, kQuery = 1 };

// How the matrix products compute.
enum class EmbedderPrecision : uint8_t {
  kFastest = 0,  // bf16 where the CPU multiplies it natively, else f32
  kF32 = 1,
};

struct EmbedderOptions {
  ThreadPool* pool = nullptr;         // Required.
  FileSystem* file_system = nullptr;  // Null: the file system of this machine.
  EmbedderPrecision precision = EmbedderPrecision::kFastest;
};

class Embedder {
 public:
  virtual ~Embedder() = default;

  // Loads the model in `folder`: config.json, model.safetensors, vocab.txt and, where present,
  // modules.json, 1_Pooling/config.json, sentence_bert_config.json, tokenizer_config.json and
  // config_sentence_transformers.json.
  // Errors: kNotFound with the missing file's path, kCorruption for a damaged file or a tensor of
  // the wrong shape, kUnsupported for another architecture, activation or pooling, kIo,
  // kResourceExhausted. Reads the whole file: about a second for 90 MB.
  static Result<std::unique_ptr<Embedder>> Load(const std::string& folder,
                                                const EmbedderOptions& options);

  // Length of a vector.
  virtual int32_t dimension() const = 0;
  // Tokens that take part in a vector, the two special ones included.
  virtual int32_t max_tokens() const = 0;
  // Names everything that a vector depends on but the arithmetic's rounding: weights, vocabulary,
  // pooling, prompts.
  virtual Digest digest() const = 0;

  // Writes the vectors of `texts` to `vectors` [texts.size(), dimension()], each of length 1. An
  // empty text has a vector too. Ill-formed UTF-8 counts as U+FFFD. `cancel` may be null and is
  // looked at between batches.
  // Errors: kCancelled; kCorruption if the weights give NaN or zero; kInvalidArgument for a text of
  // more than 1 GiB; kResourceExhausted. `vectors` is unspecified then.
  virtual Status Embed(std::span<const std::string_view> texts, TextRole role, float* vectors,
                       const CancelToken* cancel) const = 0;
};

}  // namespace intarsia::model
