// CheckReport: what a walk over everything that a database holds has found.
//
// The walk reads every document, text, chunk, vector and KV cache, compares digests, checksums and
// counts, and tells truth from what is derived from it: a damaged text is named with its document
// and cannot be made good from here; counts, postings and caches can.
//
// Thread safety: plain values. The walk itself is Database::Check.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "storage/ids.h"

namespace intarsia::storage {

struct CheckFinding {
  std::string object;   // "document notes/a.md of collection docs"
  std::string problem;  // What is wrong with it.
  std::string remedy;   // What makes it good.
  bool is_repaired = false;

  bool operator==(const CheckFinding&) const = default;
};

// Chunks that search by meaning cannot find, because their vectors are missing or damaged. Who has
// the embedding model makes them anew: Database::PutVectors.
struct MissingVectors {
  CollectionId collection = 0;
  ModelId model = 0;
  std::vector<ChunkId> chunks;
};

struct CheckReport {
  int64_t num_documents = 0;
  int64_t num_chunks = 0;
  int64_t num_vectors = 0;
  int64_t num_kv_caches = 0;
  int64_t num_bytes = 0;     // of texts and KV caches that were read
  int64_t num_findings = 0;  // `findings` holds the first 10,000 of them.
  std::vector<CheckFinding> findings;
  std::vector<MissingVectors> missing_vectors;
};

enum class CheckMode : uint8_t {
  kCheck,   // Changes nothing, but that a KV cache which is damaged is dropped, as by every reader.
  kRepair,  // Makes good what is derived. Writers wait.
};

struct CheckOptions {
  CheckMode mode = CheckMode::kCheck;
  const CancelToken* cancel = nullptr;  // may be null
  // Called with what is being read, how many are done, and how many there are; may be empty.
  std::function<void(std::string_view, int64_t, int64_t)> on_progress;
};

}  // namespace intarsia::storage
