// A flipped bit anywhere in a database or a backup: reported with its remedy, made good, or without
// any effect; never answered from.
//
// Every flip is made in a copy, which a process of its own opens, reads in every way, checks and
// repairs. What it reads is compared with what the whole database says. The smoke set is part of
// the tests; `make flips` runs ten thousand and prints what became of them.
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "storage/backup.h"
#include "tests/engine/engine_fixture.h"
#include "tests/scenario/observation.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

namespace fs = std::filesystem;

constexpr int kSmokeFlips = 54;  // three in each kind of file
constexpr int kCampaignFlips = 10'000;
// A process that takes longer hangs. Far above what the slowest machine needs.
constexpr unsigned kHangSeconds = 300;

// What became of a flip.
enum class Fate : uint8_t {
  kUnused,    // Everything reads equal, and nothing is found.
  kMadeAnew,  // The same, and the file or cache was made anew from what is whole.
  kRepaired,  // It was reported, and everything reads equal after a repair.
  kReported,  // What is damaged says so, with its remedy; all else reads equal.
  kRefused,   // The database or backup is refused, with the file and the remedy.
  kDefect,    // A wrong answer, a crash, a hang, or an error that does not help.
};
constexpr int kNumFates = 6;
constexpr std::array<const char*, kNumFates> kFateNames = {"unused",   "made anew", "repaired",
                                                           "reported", "refused",   "defect"};

// The kind of a file by its path in a database or backup, for the table.
std::string KindOf(const fs::path& path) {
  const std::string name = path.filename().string();
  if (path.extension() == ".sst") return "RocksDB table";
  if (path.extension() == ".log") return "RocksDB log";
  if (path.extension() == ".kv") return "KV segment";
  if (path.extension() == ".gidx") return "graph";
  if (path.extension() == ".vec") return "vector file";
  return name.substr(0, name.find('-'));
}

struct Target {
  std::string kind;
  std::vector<std::string> files;  // relative
};

std::vector<Target> TargetsIn(const std::string& folder) {
  std::map<std::string, std::vector<std::string>> by_kind;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.file_size() == 0) continue;
    by_kind[KindOf(entry.path())].push_back(fs::relative(entry.path(), folder).string());
  }
  std::vector<Target> targets;
  for (auto& [kind, files] : by_kind) {
    std::ranges::sort(files);
    targets.push_back({kind, std::move(files)});
  }
  return targets;
}

// Where the last record of a log of RocksDB begins. Records lie in blocks, behind a checksum, a
// length and a type; the end of a block that has no room for these is empty.
int64_t LastRecord(const std::string& log) {
  constexpr size_t kBlockBytes = 32'768;
  constexpr size_t kHeaderBytes = 7;
  size_t last = 0;
  for (size_t at = 0; at + kHeaderBytes <= log.size();) {
    if (kBlockBytes - at % kBlockBytes < kHeaderBytes) {
      at += kBlockBytes - at % kBlockBytes;
      continue;
    }
    last = at;
    at += kHeaderBytes + static_cast<uint8_t>(log[at + 4]) +
          static_cast<size_t>(static_cast<uint8_t>(log[at + 5])) * 256;
  }
  return static_cast<int64_t>(last);
}

// Whether an error says where the damage is and what to do about it.
bool IsHelpful(const std::string& text) {
  const auto has = [&](std::string_view part) { return text.find(part) != std::string::npos; };
  const bool names = has("/copy/") || has("document ") || has("collection docs") || has("model ");
  const bool helps = has("restore a backup") || has("CHECK DATABASE") || has("REPAIR DATABASE") ||
                     has("load it again") || has("use another one") || has("take the backup again");
  return names && helps;
}

struct Verdict {
  Fate fate = Fate::kDefect;
  std::string details;
};

// How what is seen differs from what the whole database says.
struct Difference {
  std::string wrong;  // The first fact that is another, or an error that does not help.
  std::string first_error;
  int num_errors = 0;
  int num_absent = 0;  // caches that were dropped
};

Difference Compare(const Observation& whole, const Observation& seen) {
  Difference difference;
  for (const auto& [name, fact] : whole) {
    const auto found = seen.find(name);
    const bool is_cache = name.starts_with("kv ");
    if (is_cache && (found == seen.end() || found->second.value == "absent")) {
      ++difference.num_absent;
      continue;
    }
    if (found != seen.end() && found->second == fact) continue;
    if (found != seen.end() && found->second.is_error && IsHelpful(found->second.value)) {
      if (difference.num_errors++ == 0) difference.first_error = name + ": " + found->second.value;
      continue;
    }
    // Caches change an answer by what fusion approximates.
    if (name == "answer" && difference.num_errors == 0 && !found->second.is_error) continue;
    difference.wrong = name + ": " + (found == seen.end() ? "missing" : found->second.value) +
                       "\nwant: " + fact.value;
    return difference;
  }
  for (const auto& [name, fact] : seen) {
    if (!whole.contains(name)) difference.wrong = name + " came from nowhere: " + fact.value;
  }
  return difference;
}

EngineOptions OptionsOf(storage::AccessMode access) {
  EngineOptions options;
  options.access = access;
  options.num_threads = 1;
  options.vectors.graph_at_once_max = 0;  // so that the file of the graph is read
  // So that a few vectors have codes and lie in a file.
  options.vectors.flat_max = 0;
  options.vectors.page_rows = 8;
  options.vectors.file_rows_min = 8;
  return options;
}

Verdict OfOpening(const Status& status) {
  const std::string text = status.ToString();
  return {IsHelpful(text) ? Fate::kRefused : Fate::kDefect, text};
}

// Reads and checks a database in every way.
struct Reading {
  Difference difference;
  Fact check;
};
Reading Read(Engine* engine, const Observation& whole, const std::vector<std::string>& sources) {
  Reading reading;
  reading.difference = Compare(whole, Observe(engine, sources));
  Session session(engine);
  reading.check = FactOf(&session, "CHECK DATABASE", {"object", "problem", "remedy"});
  if (!reading.difference.wrong.empty()) return reading;
  if (reading.check.is_error && !IsHelpful(reading.check.value)) {
    reading.difference.wrong = "CHECK DATABASE: " + reading.check.value;
  }
  if (reading.difference.num_errors > 0 && reading.check.value.empty()) {
    reading.difference.wrong = "CHECK DATABASE finds nothing: " + reading.difference.first_error;
  }
  return reading;
}

// Opens, reads, checks and repairs the database `copy`.
Verdict Examine(const std::string& copy, const Observation& whole,
                const std::vector<std::string>& sources) {
  Reading first;
  {
    const auto engine = Engine::Open(copy, OptionsOf(storage::AccessMode::kReadWrite));
    if (!engine.ok()) return OfOpening(engine.status());
    first = Read(engine->get(), whole, sources);
    if (!first.difference.wrong.empty()) return {Fate::kDefect, first.difference.wrong};
    Session session(engine->get());
    if (first.difference.num_errors == 0 && first.check.value.empty()) {
      if (first.difference.num_absent == 0) return {Fate::kUnused, {}};
      FactOf(&session, "CACHE COLLECTION docs");
      const Difference again = Compare(whole, Observe(engine->get(), sources));
      const bool is_whole = again.wrong.empty() && again.num_errors + again.num_absent == 0;
      return {is_whole ? Fate::kMadeAnew : Fate::kDefect, again.wrong};
    }
    FactOf(&session, "REPAIR DATABASE");
  }
  const auto engine = Engine::Open(copy, OptionsOf(storage::AccessMode::kReadWrite));
  if (!engine.ok()) return OfOpening(engine.status());
  const Reading second = Read(engine->get(), whole, sources);
  if (!second.difference.wrong.empty()) return {Fate::kDefect, second.difference.wrong};
  const bool is_whole = second.difference.num_errors == 0 && second.check.value.empty();
  return {is_whole ? Fate::kRepaired : Fate::kReported,
          first.difference.first_error + first.check.value};
}

// The same for one who only reads.
Verdict ExamineReadOnly(const std::string& copy, const Observation& whole,
                        const std::vector<std::string>& sources) {
  const auto engine = Engine::Open(copy, OptionsOf(storage::AccessMode::kReadOnly));
  if (!engine.ok()) return OfOpening(engine.status());
  const Reading reading = Read(engine->get(), whole, sources);
  if (!reading.difference.wrong.empty()) return {Fate::kDefect, reading.difference.wrong};
  if (reading.difference.num_errors > 0 || !reading.check.value.empty()) {
    return {Fate::kReported, reading.difference.first_error + reading.check.value};
  }
  return {reading.difference.num_absent == 0 ? Fate::kUnused : Fate::kMadeAnew, {}};
}

// Checks and restores the backup `copy`.
Verdict ExamineBackup(const std::string& copy) {
  const Status checked = storage::CheckBackup(copy, {}).status();
  const Status restored = storage::RestoreBackup(copy, copy + "-restored", {}).status();
  const bool is_there = fs::exists(copy + "-restored");
  if (checked.ok() || restored.ok() || is_there) return {Fate::kDefect, "a damaged backup is used"};
  return OfOpening(IsHelpful(checked.ToString()) ? restored : checked);
}

class FlipTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "hundreds of processes, each with one user: nothing to find here";
#endif
    storage::WriteFile(folder_ / "generator.gguf", TinyGeneratorBytes({}));
    WriteTinyEmbedder(folder_ / "embedder");
    for (const TinyDocument& document : TinyDocuments()) {
      fs::create_directories(folder_ / "documents");
      storage::WriteFile(folder_ / ("documents/" + document.name), document.text);
    }
    ASSERT_EQ(InChild([&] { MakeDatabase(); }), 0);
    Copy("whole");
    ASSERT_EQ(InChild([&] { ObserveWhole(); }), 0);
    const std::string facts = storage::ReadFile(folder_ / "facts");
    whole_ = DecodeObservation(facts);
    ASSERT_FALSE(whole_.empty());
  }

  // Runs `body` in a process of its own; returns its exit status, or minus the signal that ended
  // it.
  template <typename Body>
  static int InChild(const Body& body) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(kHangSeconds);
      SetLogLevel(LogLevel::kError);
      body();
      std::fflush(stdout);
      ::_exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // Puts a fresh copy of the database "whole" or of the backup "backup" in place.
  void Copy(const std::string& name) const {
    fs::remove_all(copy());
    fs::remove_all(copy() + "-restored");
    fs::copy(folder_ / name, copy(), fs::copy_options::recursive);
  }
  std::string copy() const { return folder_ / "copy"; }

  // A database with all kinds of rows and files, in tables and, by the newest, in the log: the
  // process ends without closing it. And a backup of it.
  void MakeDatabase() {
    auto engine = Engine::Open(folder_ / "whole", OptionsOf(storage::AccessMode::kReadWrite));
    ASSERT_TRUE(engine.ok()) << engine.status();
    Session session(engine->get());
    const auto run = [&](const std::string& sql) {
      const Fact fact = FactOf(&session, sql);
      EXPECT_FALSE(fact.is_error) << fact.value;
    };
    run("CREATE MODEL e TYPE EMBEDDING FROM '" + (folder_ / "embedder") + "'");
    run("CREATE MODEL g TYPE GENERATE FROM '" + (folder_ / "generator.gguf") + "'");
    run("CREATE COLLECTION docs (lang VARCHAR, year INT) WITH (chunk_tokens = 48, min_tokens = 8)");
    run("COPY docs FROM '" + (folder_ / "documents") + "' METADATA (lang = 'en', year = 1843)");
    run("ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 1)");
    run("CACHE COLLECTION docs");
    run("SEARCH 'harbour' IN docs WITH (mode = vector, scan = graph)");
    EXPECT_TRUE((*engine)->retriever()->Drain(nullptr).ok());
    run("DELETE FROM docs WHERE source LIKE '%market.txt'");
    EXPECT_TRUE((*engine)->database()->Compact().ok());
    run("INSERT INTO docs (id, content, lang) VALUES ('n1', 'Ice stands in the deep bay.', 'en')");
    run("BACKUP DATABASE TO '" + (folder_ / "backup") + "'");
    run("INSERT INTO docs (id, content, lang) VALUES ('n2', 'A roof of iron and glass.', 'sv'), "
        "('n3', 'The capital reached the harbour by railway in spring.', 'en')");
    run("CACHE COLLECTION docs");
    run("DELETE FROM docs WHERE source = 'n1'");
    run("INSERT INTO docs (id, content) VALUES ('n4', 'Fish is caught where oil burns.')");
    run("CACHE COLLECTION docs");
    engine->release();
  }

  // Writes down what the database in the copy says.
  void ObserveWhole() {
    const auto engine = Engine::Open(copy(), OptionsOf(storage::AccessMode::kReadWrite));
    ASSERT_TRUE(engine.ok()) << engine.status();
    Session session(engine->get());
    EXPECT_EQ(FactOf(&session, "CHECK DATABASE").value, "");
    const Observation facts = Observe(engine->get(), Sources());
    for (const auto& [name, fact] : facts) EXPECT_FALSE(fact.is_error) << name << fact.value;
    storage::WriteFile(folder_ / "facts", EncodeObservation(facts));
  }
  std::vector<std::string> Sources() const {
    std::vector<std::string> sources = {"n1", "n2", "n3", "n4"};
    for (const TinyDocument& document : TinyDocuments()) {
      sources.push_back(folder_ / ("documents/" + document.name));
    }
    return sources;
  }

  // Flips a bit of `file` in a copy of "whole" or "backup" and sees what becomes of it.
  Verdict Flip(const std::string& name, const std::string& file, int64_t bit, bool is_read_only) {
    Copy(name);
    storage::FlipBit(copy() + "/" + file, bit);
    const std::string damaged = storage::ReadFile(copy() + "/" + file);
    const int status = InChild([&] {
      const Verdict verdict = name == "backup" ? ExamineBackup(copy())
                              : is_read_only   ? ExamineReadOnly(copy(), whole_, Sources())
                                               : Examine(copy(), whole_, Sources());
      storage::WriteFile(folder_ / "details", verdict.details);
      std::fflush(stdout);
      ::_exit(100 + static_cast<int>(verdict.fate));
    });
    if (status < 100) return {Fate::kDefect, "the process ended: " + std::to_string(status)};
    Verdict verdict = {static_cast<Fate>(status - 100), storage::ReadFile(folder_ / "details")};
    if (verdict.fate == Fate::kUnused && IsMadeAnew(damaged, file, bit)) {
      verdict.fate = Fate::kMadeAnew;
    }
    return verdict;
  }

  // Whether the byte that was damaged has been written anew in the copy of `file`.
  bool IsMadeAnew(const std::string& damaged, const std::string& file, int64_t bit) const {
    const std::string now = storage::ReadFile(copy() + "/" + file);
    const auto at = static_cast<size_t>(bit / 8);
    return at < now.size() && now[at] != damaged[at];
  }

  // Makes `num_flips` flips in files of all kinds, as often in each kind, and prints their fates.
  void Campaign(int num_flips) {
    const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
    std::mt19937_64 random(seed);
    std::map<std::string, std::array<int, kNumFates>> table;
    struct Place {
      std::string name;
      Target target;
    };
    std::vector<Place> places;
    for (const std::string name : {"whole", "backup"}) {
      for (Target& target : TargetsIn(folder_ / name)) places.push_back({name, std::move(target)});
    }
    for (int i = 0; i < num_flips; ++i) {
      const Place& place = places[static_cast<size_t>(i) % places.size()];
      const std::string& file = place.target.files[random() % place.target.files.size()];
      const uint64_t num_bits = fs::file_size(folder_ / (place.name + "/" + file)) * 8;
      const auto bit = static_cast<int64_t>(random() % num_bits);
      const bool is_read_only = random() % 4 == 0;
      const Verdict verdict = Flip(place.name, file, bit, is_read_only);
      EXPECT_NE(verdict.fate, Fate::kDefect)
          << place.name << "/" << file << " bit=" << bit << " of " << num_bits
          << (is_read_only ? " read-only" : "") << " seed=" << seed << "\n"
          << verdict.details;
      const std::string row = (place.name == "backup" ? "backup: " : "") + place.target.kind;
      ++table[row][static_cast<size_t>(verdict.fate)];
    }
    Print(table);
  }

  static void Print(const std::map<std::string, std::array<int, kNumFates>>& table) {
    std::printf("| file | flips |");
    for (const char* fate : kFateNames) std::printf(" %s |", fate);
    std::printf("\n|---|");
    for (int i = 0; i <= kNumFates; ++i) std::printf("---|");
    std::printf("\n");
    for (const auto& [kind, fates] : table) {
      int sum = 0;
      for (const int count : fates) sum += count;
      std::printf("| %s | %d |", kind.c_str(), sum);
      for (const int count : fates) std::printf(" %d |", count);
      std::printf("\n");
    }
    std::fflush(stdout);
  }

  storage::TemporaryDirectory folder_;
  Observation whole_;
};

// A length that is too long makes the last record of a log look like one that was never finished.
TEST_F(FlipTest, TheLastRecordOfALogDoesNotVanish) {
  for (const Target& target : TargetsIn(folder_ / "whole")) {
    if (target.kind != "MANIFEST" && target.kind != "RocksDB log") continue;
    for (const std::string& file : target.files) {
      const int64_t record = LastRecord(storage::ReadFile(folder_ / ("whole/" + file)));
      // The high byte of the length and the type, behind the checksum and the low byte.
      for (int64_t bit = record * 8 + 40; bit < record * 8 + 56; ++bit) {
        const Verdict verdict = Flip("whole", file, bit, bit % 5 == 0);
        EXPECT_NE(verdict.fate, Fate::kDefect) << file << " bit=" << bit << "\n" << verdict.details;
      }
    }
  }
}

TEST_F(FlipTest, NoFlippedBitIsAnsweredFrom) { Campaign(kSmokeFlips); }

TEST_F(FlipTest, DISABLED_NoneOfTenThousandFlippedBitsIsAnsweredFrom) { Campaign(kCampaignFlips); }

}  // namespace
}  // namespace intarsia::engine
