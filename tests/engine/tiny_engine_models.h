// Tiny models on disk: a random generator and a random embedder that know a few dozen words.
//
// Their answers mean nothing, but they are made of the words of TinyWords() and full stops, so that
// sentences of an answer share words with the passages and get cited; and equal text has equal
// vectors, so that a search for a chunk's own text finds it.
//
// Thread safety: functions may be called concurrently.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/model/tiny_bert.h"
#include "tests/model/tiny_models.h"
#include "tests/model/tiny_tokenizers.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {

inline std::vector<std::string> TinyWords() {
  return {"harbour", "lighthouse", "railway", "market", "engineer", "water",   "bay",
          "ice",     "spring",     "lamp",    "oil",    "town",     "fish",    "capital",
          "people",  "fire",       "roof",    "glass",  "iron",     "built",   "deep",
          "rock",    "stands",     "reached", "caught", "grew",     "planned", "destroyed"};
}

struct TinyGeneratorOptions {
  uint64_t seed = 1;
  std::string_view family = "llama";
  uint32_t context = 4096;
  uint32_t hidden = 64;
  uint32_t head_dim = 16;        // a device has kernels for 64, 128 and 256
  bool has_chat_markers = true;  // Else the format is plain paragraphs.
};

// The bytes of a GGUF file with a tokenizer and a model.
inline std::string TinyGeneratorBytes(const TinyGeneratorOptions& options) {
  model::TinyBpe bpe;
  if (!options.has_chat_markers) {
    for (size_t id = 0; id < bpe.tokens.size(); ++id) {
      if (bpe.tokens[id].starts_with("<|im_")) bpe.types[id] = 1;
    }
  }
  std::set<std::string> merged;
  std::vector<int32_t> word_ids;
  const auto add_word = [&](const std::string& word) {
    for (size_t size = 1; size < word.size(); ++size) {
      const std::string left = word.substr(0, size);
      const std::string right = word.substr(size, 1);
      if (!merged.insert(left + right).second) continue;
      const int32_t id = bpe.AddMerge(left, right);
      if (size + 1 == word.size()) word_ids.push_back(id);
    }
  };
  for (const std::string& word : TinyWords()) {
    add_word(" " + word);
    add_word(" " + std::string(1, static_cast<char>(word[0] - 'a' + 'A')) + word.substr(1));
  }
  model::GgufBuilder builder = bpe.Builder();
  const model::TinyShape shape = {.family = options.family,
                                  .hidden = options.hidden,
                                  .head_dim = options.head_dim,
                                  .vocab = static_cast<uint32_t>(bpe.tokens.size()),
                                  .context = options.context};
  model::AddTinyModel(shape, options.seed, &builder);
  // Only words and full stops are ever likely, and rarely the end.
  std::mt19937 random(static_cast<uint32_t>(options.seed));
  std::normal_distribution<float> normal;
  std::vector<float> output(size_t{shape.vocab} * shape.hidden);
  const auto fill = [&](int32_t id, float magnitude) {
    for (size_t i = 0; i < shape.hidden; ++i) {
      output[static_cast<size_t>(id) * shape.hidden + i] = magnitude * normal(random);
    }
  };
  for (const int32_t id : word_ids) fill(id, 1.0f);
  fill('.', 1.6f);
  fill(static_cast<int32_t>(bpe.eos_id), 1.0f);
  builder.AddF32("output.weight", {shape.hidden, shape.vocab}, output);
  return builder.Build();
}

// A random BERT that knows TinyWords(), letters and signs.
inline model::TinyBert MakeTinyEncoder(uint32_t seed) {
  constexpr int kPositions = 128;
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  int64_t size = 5;
  const auto add = [&](const std::string& token) {
    vocabulary += token + "\n";
    ++size;
  };
  for (const std::string& word : TinyWords()) add(word);
  for (char c = '!'; c <= '~'; ++c) {
    if (c >= 'A' && c <= 'Z') continue;
    add(std::string(1, c));
    add("##" + std::string(1, c));
  }
  model::TinyBert bert(seed);
  std::mt19937 random(seed + 1);
  std::normal_distribution<float> normal;
  const auto resize = [&](const std::string& name, int64_t num_rows, float deviation) {
    model::TinyBert::Tensor& tensor = bert.tensors.at(name);
    tensor.shape[0] = num_rows;
    tensor.values.resize(static_cast<size_t>(num_rows) * model::TinyBert::kHidden);
    for (float& value : tensor.values) value = deviation * normal(random);
  };
  resize("embeddings.word_embeddings.weight", size, 1.0f);
  resize("embeddings.position_embeddings.weight", kPositions, 0.1f);
  bert.files.at("vocab.txt") = vocabulary;
  bert.files.at("config.json") =
      R"({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 24,
          "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": )" +
      std::to_string(size) + R"(, "max_position_embeddings": 128, "type_vocab_size": 2,
          "layer_norm_eps": 1e-12, "hidden_act": "gelu"})";
  bert.files.at("sentence_bert_config.json") = R"({"max_seq_length": 128, "do_lower_case": false})";
  return bert;
}

inline void WriteTinyEncoder(const model::TinyBert& bert, const std::string& folder) {
  for (const auto& [name, text] : bert.files) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::filesystem::create_directories(path.parent_path());
    storage::WriteFile(path, text);
  }
  storage::WriteFile(folder + "/model.safetensors", bert.Safetensors());
}

// Writes a folder in the manner of sentence-transformers.
inline void WriteTinyEmbedder(const std::string& folder, uint32_t seed = 1) {
  WriteTinyEncoder(MakeTinyEncoder(seed), folder);
}

// Writes a cross-encoder. Its scores mean nothing.
inline void WriteTinyReranker(const std::string& folder, uint32_t seed = 1) {
  model::TinyBert bert = MakeTinyEncoder(seed);
  bert.AddHead();
  bert.files.erase("modules.json");
  bert.files.erase("1_Pooling/config.json");
  WriteTinyEncoder(bert, folder);
}

}  // namespace intarsia::engine
