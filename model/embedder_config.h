// EmbedderConfig: what the JSON files of a sentence-transformers folder say about an encoder.
//
// The files are untrusted: every number is checked against a range, names that become paths are
// plain, and what would change a vector without our knowing it is refused.
//
// Thread safety: a plain value; ReadEmbedderConfig may be called concurrently.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "model/bert.h"
#include "model/wordpiece_tokenizer.h"

namespace intarsia::model {

// How the rows of a text become one vector.
enum class Pooling : uint8_t { kMean = 0, kClsToken = 1 };

struct EmbedderConfig {
  BertConfig bert;
  WordPieceOptions tokenizer;
  Pooling pooling = Pooling::kMean;
  int32_t max_tokens = 0;  // the two special ones included
  std::string query_prompt;
  std::string document_prompt;
};

// Reads config.json and, where present, modules.json, the pooling module's config.json,
// sentence_bert_config.json, tokenizer_config.json and config_sentence_transformers.json.
// Errors: kNotFound without config.json; kCorruption for what is no JSON, of the wrong type or out
// of range; kUnsupported for another architecture, activation, pooling or module; kIo.
Result<EmbedderConfig> ReadEmbedderConfig(const std::string& folder, FileSystem* file_system);

}  // namespace intarsia::model
