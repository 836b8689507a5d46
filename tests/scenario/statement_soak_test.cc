// kill -9 in the middle of statements: what was acknowledged is found by every leg of a search.
//
// A child process runs statements that follow from the seed, says when each is done, and is killed;
// another then compares documents, searches, caches, backups and restored databases with what was
// acknowledged. Five kills a run; `make soak` repeats runs with other seeds.
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/scenario/observation.h"
#include "tests/storage/soak_workload.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

namespace fs = std::filesystem;
using storage::OperationKind;

constexpr int kNumKills = 5;

std::unique_ptr<Engine> OpenEngine(const std::string& path) {
  SetLogLevel(LogLevel::kError);
  EngineOptions options;
  options.num_threads = 1;
  options.vectors.graph_at_once_max = 0;  // so that graphs are made aside and written
  return storage::Must(Engine::Open(path, options));
}

// The result of a statement that must succeed; else the process ends.
query::ResultSet MustRun(Session* session, const std::string& sql) {
  auto result = session->Execute(sql, {});
  if (!result.ok()) {
    std::fprintf(stderr, "unexpected: %s: %s\n", sql.c_str(),
                 query::RenderDiagnostic(result.diagnostic(), sql).c_str());
    std::abort();
  }
  return *std::move(result);
}

class StatementSoakTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "many processes, each with one user: nothing to find here";
#endif
    storage::WriteFile(folder_ / "generator.gguf", TinyGeneratorBytes({}));
    WriteTinyEmbedder(folder_ / "embedder");
    fs::create_directory(home());
  }
  std::string home() const { return folder_ / "home"; }

  void Make() const {
    const auto engine = OpenEngine(storage::DatabaseIn(home()));
    Session session(engine.get());
    MustRun(&session, "CREATE MODEL e TYPE EMBEDDING FROM '" + (folder_ / "embedder") + "'");
    MustRun(&session, "CREATE MODEL g TYPE GENERATE FROM '" + (folder_ / "generator.gguf") + "'");
    MustRun(&session, "CREATE COLLECTION docs");
  }

  // The statement of an operation; empty where there is nothing to do.
  std::string SqlOf(uint64_t seed, int64_t number) const {
    const storage::Operation operation = storage::OperationOf(seed, number);
    const std::string source = storage::SourceOf(operation.source);
    const int64_t backup = storage::LastOf(seed, OperationKind::kBackUp, number);
    const std::string backup_path = storage::BackupIn(home(), backup);
    switch (operation.kind) {
      case OperationKind::kPut:
        return "INSERT INTO docs (id, content) VALUES ('" + source + "', '" +
               storage::TextOf(number) + "')";
      case OperationKind::kDelete:
        return "DELETE FROM docs WHERE source = '" + source + "'";
      case OperationKind::kCache:
        // Behind an answer, at once, or not a cache but the graph of the vectors.
        return number % 3 == 0   ? "ANSWER 'operation' FROM docs WITH (min_score = -1, k = 3, "
                                   "max_tokens = 1)"
               : number % 3 == 1 ? "CACHE COLLECTION docs WHERE source = '" + source + "'"
                                 : "SEARCH 'operation' IN docs WITH (mode = vector, scan = graph)";
      case OperationKind::kClear:
        return "CLEAR CACHE KV FOR docs";
      case OperationKind::kBackUp: {
        const bool is_incremental = operation.source % 2 == 1 && backup >= 0;
        return "BACKUP DATABASE TO '" + storage::BackupIn(home(), number) + "'" +
               (is_incremental ? " WITH (base = '" + backup_path + "')" : "");
      }
      case OperationKind::kRestore:
        return backup < 0 ? ""
                          : "RESTORE DATABASE FROM '" + backup_path + "' AS '" +
                                storage::RestoredIn(home(), number) + "'";
      case OperationKind::kCheck:
        return "CHECK DATABASE";
      case OperationKind::kCompact:
        return "";  // No statement: the engine's own.
    }
    return "";
  }

  // Runs statements from `first` on and acknowledges each, until it is killed.
  void Work(uint64_t seed, int64_t first, int acknowledge) const {
    const auto engine = OpenEngine(storage::DatabaseIn(home()));
    Session session(engine.get());
    for (int64_t number = first;; ++number) {
      const OperationKind kind = storage::OperationOf(seed, number).kind;
      // The process before may have been killed in this very operation.
      const bool is_done =
          kind == OperationKind::kBackUp && !storage::PrepareBackup(home(), number);
      if (kind == OperationKind::kRestore) fs::remove_all(storage::RestoredIn(home(), number));
      if (kind == OperationKind::kCompact) storage::Must(engine->database()->Compact());
      const std::string sql = is_done ? "" : SqlOf(seed, number);
      const query::ResultSet result = sql.empty() ? query::ResultSet() : MustRun(&session, sql);
      if (kind == OperationKind::kCheck && !result.rows.empty()) std::abort();
      // What is kept beside the newest goes.
      const int64_t before = storage::LastOf(seed, kind, number);
      if (kind == OperationKind::kBackUp) fs::remove_all(storage::BackupIn(home(), before));
      if (kind == OperationKind::kRestore) fs::remove_all(storage::RestoredIn(home(), before));
      if (::write(acknowledge, &number, sizeof(number)) != sizeof(number)) std::abort();
    }
  }

  // Every leg of a search finds exactly the documents of `state`, with their texts.
  static void ExpectFound(Session* session, const std::map<uint64_t, int64_t>& state) {
    std::vector<std::string> want;
    for (const auto& [source, number] : state) {
      want.push_back(storage::SourceOf(source) + "|" + storage::TextOf(number));
    }
    std::ranges::sort(want);
    for (const std::string leg :
         {"mode = text", "mode = vector, scan = flat", "mode = vector, scan = binary",
          "mode = vector, scan = graph", "mode = hybrid"}) {
      const query::ResultSet hits = MustRun(
          session, "SEARCH 'operation' IN docs LIMIT 100 WITH (snippet_chars = 0, " + leg + ")");
      std::vector<std::string> got;
      for (const query::Row& row : hits.rows) {
        got.push_back(row[1].AsString() + "|" + row.back().AsString());
      }
      std::ranges::sort(got);
      EXPECT_EQ(got, want) << leg;
    }
    for (const auto& [source, number] : state) {
      const query::ResultSet hits =
          MustRun(session, "SEARCH '\"operation " + std::to_string(number) +
                               "\"' IN docs WITH (mode = text)");
      ASSERT_EQ(hits.rows.size(), 1U) << number;
      EXPECT_EQ(hits.rows[0][1].AsString(), storage::SourceOf(source));
    }
  }

  // The bytes of every cache, by identity.
  static std::map<Digest, std::string> Caches(Engine* engine) {
    std::map<Digest, std::string> caches;
    storage::KvStore* const store = engine->database()->kv();
    for (const Digest& identity : store->core()->ListIdentities()) {
      caches[identity] = CacheFact(store, identity).value;
    }
    return caches;
  }

  int Verify(uint64_t seed, int64_t count) const {
    const int state = storage::Verify(home(), seed, count, storage::AfterEnd::kOfProcess);
    const auto documents =
        storage::StateAfter(seed, state == storage::kIsAfter ? count + 1 : count);
    std::map<Digest, std::string> caches;
    {
      const auto engine = OpenEngine(storage::DatabaseIn(home()));
      Session session(engine.get());
      ExpectFound(&session, documents);
      EXPECT_TRUE(MustRun(&session, "CHECK DATABASE").rows.empty());
      caches = Caches(engine.get());
    }
    if (documents.empty()) return state;
    // Computed anew, every cache has the same bytes, and there is none of what is gone.
    const std::string copy = folder_ / "copy";
    fs::remove_all(copy);
    fs::copy(storage::DatabaseIn(home()), copy, fs::copy_options::recursive);
    const auto engine = OpenEngine(copy);
    Session session(engine.get());
    MustRun(&session, "CLEAR CACHE KV");
    MustRun(&session, "CACHE COLLECTION docs");
    const std::map<Digest, std::string> fresh = Caches(engine.get());
    for (const auto& [identity, bytes] : caches) {
      const auto found = fresh.find(identity);
      EXPECT_TRUE(found != fresh.end() && found->second == bytes) << identity.ToHex();
    }
    return state;
  }

  storage::TemporaryDirectory folder_;
};

TEST_F(StatementSoakTest, KillsLoseNothingAcknowledgedAndBringNothingBack) {
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE("seed=" + std::to_string(seed));
  storage::RunKills(
      seed, kNumKills,
      {.make = [&] { Make(); },
       .work = [&](int64_t first, int acknowledge) { Work(seed, first, acknowledge); },
       .verify = [&](int64_t count) { return Verify(seed, count); }});
}

}  // namespace
}  // namespace intarsia::engine
