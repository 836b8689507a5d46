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
#include <ranges>
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
constexpr OperationKind kKinds[] = {
    OperationKind::kPut,     OperationKind::kIngest,      OperationKind::kDelete,
    OperationKind::kErase,   OperationKind::kCache,       OperationKind::kAnswer,
    OperationKind::kIndex,   OperationKind::kClear,       OperationKind::kCompact,
    OperationKind::kBackUp,  OperationKind::kBackUpSince, OperationKind::kRestore,
    OperationKind::kRestore, OperationKind::kCheck};

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
    fs::create_directories(home() + "/files");
  }
  std::string home() const { return folder_ / "home"; }

  void Make() const {
    const auto engine = OpenEngine(storage::DatabaseIn(home()));
    Session session(engine.get());
    MustRun(&session, "CREATE MODEL e TYPE EMBEDDING FROM '" + (folder_ / "embedder") + "'");
    MustRun(&session, "CREATE MODEL g TYPE GENERATE FROM '" + (folder_ / "generator.gguf") + "'");
    MustRun(&session, "CREATE COLLECTION docs");
  }

  // The files that an operation copies, which have their names in home().
  static void WriteFiles(int64_t number, const storage::Operation& operation) {
    for (const uint64_t source : storage::SourcesOf(operation)) {
      storage::WriteFile(storage::SourceOf(source), storage::TextOf(number));
    }
  }
  static std::string CopyOf(const storage::Operation& operation) {
    std::string sql = "COPY docs FROM ";
    for (const uint64_t source : storage::SourcesOf(operation)) {
      sql += (sql.ends_with("'") ? ", '" : "'") + storage::SourceOf(source) + "'";
    }
    return sql;
  }

  // The statement of an operation; empty where there is nothing to do.
  std::string SqlOf(uint64_t seed, int64_t number) const {
    const storage::Operation operation = storage::OperationOf(seed, number);
    const std::string source = storage::SourceOf(operation.source);
    const int64_t backup = storage::LastBackUp(seed, number);
    const std::string backup_path = storage::BackupIn(home(), backup);
    switch (operation.kind) {
      case OperationKind::kPut:
        return "INSERT INTO docs (id, content) VALUES ('" + source + "', '" +
               storage::TextOf(number) + "')";
      case OperationKind::kIngest:
        return CopyOf(operation);
      case OperationKind::kDelete:
        return "DELETE FROM docs WHERE source = '" + source + "'";
      case OperationKind::kErase:
        return "DELETE FROM docs WHERE source = '" + source + "' WITH (secure = true)";
      case OperationKind::kCache:
        return "CACHE COLLECTION docs WHERE source = '" + source + "'";
      case OperationKind::kAnswer:
        return "ANSWER 'operation' FROM docs WITH (min_score = -1, k = 3, max_tokens = 1)";
      case OperationKind::kIndex:
        return "SEARCH 'operation' IN docs WITH (mode = vector, scan = graph)";
      case OperationKind::kClear:
        return "CLEAR CACHE KV FOR docs";
      case OperationKind::kBackUp:
      case OperationKind::kBackUpSince: {
        const bool has_base = operation.kind == OperationKind::kBackUpSince && backup >= 0;
        return "BACKUP DATABASE TO '" + storage::BackupIn(home(), number) + "'" +
               (has_base ? " WITH (base = '" + backup_path + "')" : "");
      }
      case OperationKind::kRestore:
        return backup < 0 ? ""
                          : "RESTORE DATABASE FROM '" + backup_path + "' AS '" +
                                storage::RestoredIn(home(), number) + "'";
      case OperationKind::kCheck:
        return "CHECK DATABASE";
      case OperationKind::kCompact:
        return "COMPACT DATABASE";
    }
    return "";
  }

  // Runs statements from `first` on and acknowledges each, until it is killed.
  void Work(uint64_t seed, int64_t first, int acknowledge) const {
    fs::current_path(home());
    const auto engine = OpenEngine(storage::DatabaseIn(home()));
    Session session(engine.get());
    for (int64_t number = first;; ++number) {
      const storage::Operation operation = storage::OperationOf(seed, number);
      const OperationKind kind = operation.kind;
      // The process before may have been killed in this very operation.
      const bool is_done = storage::IsBackUp(kind) && !storage::PrepareBackup(home(), number);
      if (kind == OperationKind::kRestore) fs::remove_all(storage::RestoredIn(home(), number));
      if (kind == OperationKind::kIngest) WriteFiles(number, operation);
      const std::string sql = is_done ? "" : SqlOf(seed, number);
      const query::ResultSet result = sql.empty() ? query::ResultSet() : MustRun(&session, sql);
      if (kind == OperationKind::kCheck && !result.rows.empty()) std::abort();
      // Of some, the thread that writes caches goes on beside the next statements.
      if (kind == OperationKind::kAnswer && operation.source % 2 == 0) {
        if (!engine->kv()->Drain(nullptr).ok()) std::abort();
      }
      // What is kept beside the newest goes.
      if (storage::IsBackUp(kind)) {
        fs::remove_all(storage::BackupIn(home(), storage::LastBackUp(seed, number)));
      } else if (kind == OperationKind::kRestore) {
        fs::remove_all(storage::RestoredIn(home(), storage::LastRestore(seed, number)));
      }
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
      EXPECT_EQ(std::ssize(hits.rows), std::ranges::count(state | std::views::values, number));
      EXPECT_TRUE(std::ranges::any_of(hits.rows, [&](const query::Row& row) {
        return row[1].AsString() == storage::SourceOf(source);
      })) << number;
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
    std::map<uint64_t, int64_t> documents;
    std::map<Digest, std::string> caches;
    {
      const auto engine = OpenEngine(storage::DatabaseIn(home()));
      documents = storage::StateIn(engine->database()->Read(), seed, count);
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
      {.kinds = kKinds,
       .make = [&] { Make(); },
       .work = [&](int64_t first, int acknowledge) { Work(seed, first, acknowledge); },
       .verify = [&](int64_t count) { return Verify(seed, count); }});
}

}  // namespace
}  // namespace intarsia::engine
