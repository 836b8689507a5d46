// Goldens: what other programs make of the strings in tests/data/tokenizer.
//
// Written by tools/make_tokenizer_goldens.py. Tests run in the source root.
//
// Thread safety: functions may be called concurrently.
#pragma once

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace intarsia::model {

inline std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

inline nlohmann::json ReadGoldens(const std::string& name) {
  return nlohmann::json::parse(ReadTestFile("tests/data/tokenizer/" + name + ".json"));
}

inline bool HasModel(const std::string& path) { return std::ifstream(path).good(); }

// The tokenizer of a model file. REQUIRES: HasModel.
inline std::unique_ptr<Tokenizer> LoadModelTokenizer(const std::string& path) {
  FileSystem* file_system = FileSystem::Local();
  auto file = GgufFile::Open(path, file_system);
  EXPECT_TRUE(file.ok()) << file.status();
  if (!file.ok()) return nullptr;
  auto tokenizer = LoadTokenizer(**file);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

}  // namespace intarsia::model
