// EngineFixture: a database in a temporary folder with tiny models, and statements run on it.
//
// Thread safety: owned by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/session.h"
#include "storage/rocks.h"
#include "tests/engine/fake_devices.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {

struct TinyDocument {
  std::string name;
  std::string text;
};

inline std::vector<TinyDocument> TinyDocuments() {
  return {
      {"harbour.md",
       "# Harbour\n\nThe harbour was built in 1843 by the engineer Maria Lind. She chose the bay, "
       "because its water is deep and the ice leaves it in spring.\n"},
      {"lighthouse.md",
       "# Lighthouse\n\nThe lighthouse stands on a rock. Its lamp was lit by oil until 1911.\n\n"
       "## Lamp\n\nThe lamp of glass and iron is seen from the town and from the harbour.\n"},
      {"railway.md",
       "# Railway\n\nThe railway reached the town in 1872. Fish could now be sold in the capital "
       "on the day it was caught, and the town grew to four thousand people.\n"},
      {"market.txt",
       "A fire destroyed the market in 1899. The engineer planned a new one with a roof of glass "
       "and iron.\n"},
      {"größe.md",
       "# Café „Größe“\n\nDas Café öffnet früh – the market sells fish für 5 €. 東京の港は深い。 "
       "The water of the bay is déjà vu 🐟.\n"},
  };
}

class EngineFixture : public testing::Test {
 protected:
  EngineFixture() {
    SetLogLevel(LogLevel::kError);  // Damage is meant here.
    storage::WriteFile(folder_ / "generator.gguf", TinyGeneratorBytes({}));
    WriteTinyEmbedder(folder_ / "embedder");
    std::filesystem::create_directories(folder_ / "documents");
    Open();
  }

  // Opens the database, closing it first if it is open.
  void Open(EngineOptions options = {}) {
    Close();
    // One thread is as fast on models of this size, and does not wait for busy neighbours.
    if (options.num_threads == 0) options.num_threads = 1;
    if (options.devices == LocalDevices()) options.devices = machine_;
    auto opened = Engine::Open(database_path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    engine_ = *std::move(opened);
    session_ = std::make_unique<Session>(engine_.get());
  }
  void Close() {
    session_.reset();
    engine_.reset();
  }

  // Changes rows of the database behind the program's back, and opens it again.
  void ChangeRows(const std::function<void(storage::Rocks*, storage::RowBatch*)>& change) {
    Close();
    auto rocks = storage::Rocks::Open(database_path() + "/rocksdb", {});
    ASSERT_TRUE(rocks.ok()) << rocks.status();
    {
      storage::RowBatch batch(rocks->get());
      change(rocks->get(), &batch);
      ASSERT_TRUE((*rocks)->Write(&batch, storage::Durability::kSync).ok());
    }
    rocks->reset();
    Open();
  }

  std::string database_path() const { return folder_ / "database"; }
  std::string generator_path() const { return folder_ / "generator.gguf"; }
  std::string embedder_path() const { return folder_ / "embedder"; }
  std::string DocumentPath(const std::string& name) const {
    return folder_ / ("documents/" + name);
  }
  void WriteDocument(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = DocumentPath(name);
    std::filesystem::create_directories(path.parent_path());
    storage::WriteFile(path, text);
  }

  query::Outcome<query::ResultSet> Execute(std::string_view sql) {
    auto outcome = session_->Execute(sql, context_);
    EXPECT_TRUE(IsNothingInUse()) << sql;
    return outcome;
  }
  // A statement leaves no cache in use, whether or not it succeeds. What is written behind it uses
  // caches for a moment, and what another session of the test runs as long as that takes.
  bool IsNothingInUse() const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    const storage::KvStore& kv = *engine_->database()->kv();
    while (kv.stats().num_pins + kv.memory_stats().num_pins > 0) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  // The result of a statement that must succeed.
  query::ResultSet Run(std::string_view sql) {
    auto outcome = Execute(sql);
    if (outcome.ok()) return *std::move(outcome);
    ADD_FAILURE() << query::RenderDiagnostic(outcome.diagnostic(), sql);
    return {};
  }
  // The lines of a statement that gives a column of text.
  std::string Plan(std::string_view sql) {
    std::string plan;
    for (const query::Row& row : Run(sql).rows) plan += row[0].AsString() + "\n";
    return plan;
  }
  static bool Has(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
  }
  // The error of a statement that must fail.
  query::Diagnostic Fail(std::string_view sql) {
    auto outcome = Execute(sql);
    if (!outcome.ok()) return outcome.diagnostic();
    ADD_FAILURE() << "did not fail: " << sql;
    return {};
  }

  // Registers both models and makes the collection `docs`.
  void CreateDocs(const std::string& options = "chunk_tokens = 48, min_tokens = 8") {
    Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
    Run("CREATE MODEL g TYPE GENERATE FROM '" + generator_path() + "' WITH (kv_gate = 'off')");
    Run("CREATE COLLECTION docs WITH (" + options + ")");
  }
  // The same, with TinyDocuments() in it.
  void CreateFilledDocs(const std::string& options = "chunk_tokens = 48, min_tokens = 8") {
    CreateDocs(options);
    FillDocs();
  }
  void FillDocs() {
    for (const TinyDocument& document : TinyDocuments()) {
      WriteDocument(document.name, document.text);
    }
    CopyAll();
  }
  // A collection of short documents, n0 and so on, one chunk each, and more of them.
  void CreateMany(int count) {
    CreateDocs();
    Run("CREATE COLLECTION many (part INT)");
    InsertMany(0, count);
  }
  void InsertMany(int begin, int end) {
    std::string values;
    const std::vector<std::string> words = TinyWords();
    for (int i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      values += (i > begin ? ", (" : "(") + ("'n" + std::to_string(i)) + "', '" +
                words[at % words.size()] + " " + words[(at * 7 / 3) % words.size()] + " " +
                words[(at / words.size()) % words.size()] + "', " + std::to_string(i % 10) + ")";
    }
    Run("INSERT INTO many (id, content, part) VALUES " + values);
  }
  query::ResultSet CopyAll() { return Run("COPY docs FROM '" + DocumentPath("") + "'"); }

  // A cell of `result`, which must live as long.
  static const query::Value& Cell(const query::ResultSet& result, std::string_view column,
                                  size_t row = 0) {
    static const query::Value kNone(0);
    for (size_t i = 0; i < result.columns.size(); ++i) {
      if (result.columns[i].name == column && row < result.rows.size()) return result.rows[row][i];
    }
    ADD_FAILURE() << "no cell: " << column;
    return kNone;
  }
  static int64_t Number(const query::ResultSet& result, std::string_view column, size_t row = 0) {
    const query::Value& cell = Cell(result, column, row);
    if (cell.kind() == query::ValueKind::kInteger) return cell.AsInteger();
    ADD_FAILURE() << "no integer: " << column;
    return 0;
  }
  static std::string Text(const query::ResultSet& result, std::string_view column, size_t row = 0) {
    return query::ToText(Cell(result, column, row), "NULL");
  }
  // A number inside the object of a cell of an ANSWER: "usage", "reused_tokens".
  static int64_t Usage(const query::ResultSet& answer, std::string_view name) {
    const query::Value* const value = Cell(answer, "usage").Find(name);
    if (value != nullptr) return value->AsInteger();
    ADD_FAILURE() << "no usage: " << name;
    return 0;
  }
  static bool HasNotice(const query::ResultSet& result, std::string_view part) {
    for (const std::string& notice : result.notices) {
      if (notice.find(part) != std::string::npos) return true;
    }
    return false;
  }

  // Waits for what is written behind.
  void Finish() { EXPECT_TRUE(engine_->Finish(nullptr).ok()); }

  storage::TemporaryDirectory folder_;
  AbsentDevices no_devices_;
  // Where options name no devices, so that a test sees the same on every machine.
  DeviceProvider* machine_ = &no_devices_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  StatementContext context_;
};

}  // namespace intarsia::engine
