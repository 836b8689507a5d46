// Observation: everything that a user can read of a database, as facts that two states share or
// not.
//
// Every document by its source, the catalog, every search leg, every KV cache with its bytes and an
// answer. A fact that cannot be had is an error with what the user is told.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "engine/engine.h"
#include "engine/session.h"
#include "storage/kv_core.h"

namespace intarsia::engine {

struct Fact {
  std::string value;  // What is read, or the rendered diagnostic.
  bool is_error = false;

  bool operator==(const Fact&) const = default;
};

// By what they are about: "document harbour.md", "search text", "kv 12ab...", "answer".
using Observation = std::map<std::string, Fact>;

// The columns `columns` of all rows of `sql`; empty: all columns.
inline Fact FactOf(Session* session, const std::string& sql,
                   const std::vector<std::string>& columns = {}) {
  const query::Outcome<query::ResultSet> result = session->Execute(sql, {});
  if (!result.ok()) return {query::RenderDiagnostic(result.diagnostic(), {}), true};
  Fact fact;
  for (const query::Row& row : result->rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string& name = result->columns[i].name;
      if (!columns.empty() && std::ranges::find(columns, name) == columns.end()) continue;
      fact.value += query::ToJson(row[i]) + "|";
    }
    fact.value += "\n";
  }
  return fact;
}

// Reads a whole cache, and says which bytes it has or that it is absent.
inline Fact CacheFact(storage::KvStore* store, const Digest& identity) {
  const Fact absent = {.value = "absent"};
  const Result<storage::KvHandle> handle = store->Find(identity);
  if (!handle.ok()) return absent;
  std::string bytes;
  for (int64_t layer = 0; layer < handle->shape().num_layers; ++layer) {
    std::vector<uint8_t> target(static_cast<size_t>(handle->layer_bytes(layer)));
    if (!store->ReadLayer(*handle, layer, target).ok()) return absent;
    bytes.append(target.begin(), target.end());
  }
  return {.value = DigestOf(bytes).ToHex()};
}

inline std::string EncodeObservation(const Observation& facts) {
  ByteWriter writer;
  for (const auto& [name, fact] : facts) {
    writer.WriteString(name);
    writer.WriteString(fact.value);
    writer.Write(static_cast<uint8_t>(fact.is_error));
  }
  return std::move(writer).TakeBytes();
}
inline Observation DecodeObservation(const std::string& bytes) {
  Observation facts;
  ByteReader reader(bytes);
  while (reader.remaining() > 0 && !reader.failed()) {
    const std::string name(reader.ReadString());
    Fact& fact = facts[name];
    fact.value = reader.ReadString();
    fact.is_error = reader.Read<uint8_t>() != 0;
  }
  return facts;
}

// Observes the collection `docs` with the documents `sources`, whether or not they are there.
inline Observation Observe(Engine* engine, const std::vector<std::string>& sources) {
  Session session(engine);
  Observation facts;
  // First, because answers may write caches behind.
  for (const Digest& identity : engine->database()->kv()->core()->ListIdentities()) {
    facts["kv " + identity.ToHex()] = CacheFact(engine->database()->kv(), identity);
  }
  facts["models"] = FactOf(&session, "SHOW MODELS");
  facts["collections"] = FactOf(&session, "SHOW COLLECTIONS",
                                {"name", "documents", "chunks", "text_bytes", "embedding"});
  facts["columns"] = FactOf(&session, "DESCRIBE docs");
  facts["count"] = FactOf(&session, "SELECT COUNT(*) FROM docs");
  for (const std::string& source : sources) {
    facts["document " + source] =
        FactOf(&session, "SELECT * FROM docs WHERE source = '" + source + "'");
  }
  // Asked for once, the graph is read or built aside.
  FactOf(&session, "SEARCH 'harbour' IN docs WITH (mode = vector, scan = graph)");
  engine->retriever()->Drain(nullptr).IgnoreError();  // The search below says what is wrong.
  for (const std::string leg :
       {"mode = text", "mode = vector, scan = flat", "mode = vector, scan = binary",
        "mode = vector, scan = graph", "mode = hybrid, scan = flat"}) {
    facts["search " + leg] = FactOf(
        &session,
        "SEARCH 'the harbour of the town' IN docs LIMIT 100 WITH (snippet_chars = 0, " + leg + ")",
        {"source", "heading", "byte_start", "byte_end", "chunk_id", "snippet"});
  }
  facts["answer"] =
      FactOf(&session, "ANSWER 'harbour?' FROM docs WITH (min_score = -1, k = 4, max_tokens = 4)",
             {"answer", "citations"});
  return facts;
}

}  // namespace intarsia::engine
