// The shell from the outside, with models: answers, scripts, Ctrl-C.
//
// What it prints without any is in tests/client/shell/program_test.cc.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>

#include "tests/engine/tiny_engine_models.h"
#include "tests/scenario/program.h"

namespace intarsia::client {
namespace {

class ShellScenarioTest : public testing::Test {
 protected:
  ShellScenarioTest() {
    storage::WriteFile(folder_ / "generator.gguf", engine::TinyGeneratorBytes({}));
    engine::WriteTinyEmbedder(folder_ / "embedder");
    std::filesystem::create_directory(folder_ / "documents");
  }

  std::string database() const { return folder_ / "database"; }
  // Statements that make the collection `docs`.
  std::string SetUpSql() const {
    return "CREATE MODEL e FROM '" + (folder_ / "embedder") + "'; CREATE MODEL g FROM '" +
           (folder_ / "generator.gguf") + "' WITH (kv_gate = 'off'); CREATE COLLECTION docs;";
  }
  void WriteManyDocuments(int count) const {
    for (int i = 0; i < count; ++i) {
      storage::WriteFile(folder_ / ("documents/" + std::to_string(i) + ".txt"),
                         "Fish number " + std::to_string(i) + " was caught in the deep bay.");
    }
  }
  std::string CopySql() const { return "COPY docs FROM '" + (folder_ / "documents") + "';"; }

  storage::TemporaryDirectory folder_;
};

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(ShellScenarioTest, JsonIsOneArrayAStatementAndNoticesGoElsewhere) {
  const ProgramEnd end = RunProgram(
      {database(), "-c",
       SetUpSql() + "INSERT INTO docs (id, content) VALUES ('a', 'The harbour is deep.');"
                    "SELECT source, byte_end FROM docs; SELECT source FROM docs WHERE source = 'b'",
       "--format", "json"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  const std::vector<std::string> lines = Lines(end.out);
  ASSERT_EQ(lines.size(), 6u) << end.out;
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(lines[i], "[]");
  EXPECT_TRUE(lines[3].starts_with("[{\"added\":1,")) << lines[3];
  EXPECT_EQ(lines[4], "[{\"source\":\"a\",\"byte_end\":20}]");
  EXPECT_EQ(lines[5], "[]");
  EXPECT_TRUE(Has(end.err, "Notice: model e is now the default to embed\n")) << end.err;
  EXPECT_TRUE(Has(end.err, "Notice: model g is now the default to generate\n")) << end.err;
}

TEST_F(ShellScenarioTest, AnAnswerIsOneRowWithAllItsColumns) {
  const ProgramEnd end = RunProgram(
      {database(), "-c",
       SetUpSql() + "INSERT INTO docs (id, content) VALUES ('a', 'The harbour is deep.');", "-c",
       "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 4)", "--json"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  const std::string answer = Lines(end.out).back();
  for (const char* part :
       {"[{\"answer\":\"", "\"citations\":[", "\"usage\":{\"prompt_tokens\":", "\"reused_tokens\":",
        "\"recomputed_tokens\":", "\"fresh_tokens\":", "\"generated_tokens\":4}",
        "\"timing\":{\"retrieve_ms\":", "\"ttft_ms\":", "\"fusion\":{\"selector\":\"attention\""}) {
    EXPECT_TRUE(Has(answer, part)) << part << " in " << answer;
  }
  // What it left to do was done before it ended.
  const ProgramEnd cache = RunProgram({database(), "-c", "SHOW CACHE FOR docs", "--json"});
  EXPECT_TRUE(Has(cache.out, "\"entries\":1")) << cache.out;
}

TEST_F(ShellScenarioTest, AFailedStatementEndsTheScriptWithOne) {
  const ProgramEnd end = RunProgram(
      {database(), "--json", "-c", "SHOW MODELS; SELECT nothing FROM nowhere; SHOW COLLECTIONS"});
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.out, "[]\n");
  EXPECT_TRUE(Has(end.err, "Catalog error: collection \"nowhere\" does not exist\n")) << end.err;
  EXPECT_TRUE(Has(end.err, "LINE 1: ")) << end.err;
  const ProgramEnd parser = RunProgram({database(), "-c", "SELEC"});
  EXPECT_EQ(parser.exit_code, 1);
  EXPECT_EQ(parser.out, "");
  EXPECT_TRUE(Has(parser.err, "Parser error: ")) << parser.err;
}

TEST_F(ShellScenarioTest, BadUsageEndsWithTwo) {
  storage::WriteFile(folder_ / "file", "not a database");
  const std::vector<std::vector<std::string>> cases = {
      {database(), "--fromat", "json"},
      {database(), "--format", "yaml", "-c", "SHOW MODELS"},
      {database(), "-f", folder_ / "nowhere.sql"},
      {database(), "--json", "--csv", "-c", "SHOW MODELS"},
      {folder_ / "file", "-c", "SHOW MODELS"},
      {folder_ / "absent", "--readonly", "-c", "SHOW MODELS"},
      {"intarsia://localhost", "-c", "SHOW MODELS"},
      {database(), "another"},
  };
  for (const std::vector<std::string>& arguments : cases) {
    const ProgramEnd end = RunProgram(arguments);
    EXPECT_EQ(end.exit_code, 2) << arguments[1];
    EXPECT_EQ(end.out, "") << arguments[1];
    EXPECT_TRUE(end.err.starts_with("intarsia: ")) << end.err;
  }
  EXPECT_EQ(storage::ReadFile(folder_ / "file"), "not a database");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "absent"));
}

TEST_F(ShellScenarioTest, ScriptsComeFromFilesAndFromStandardInput) {
  storage::WriteFile(folder_ / "script.sql",
                     "-- A comment; with a semicolon.\n" + SetUpSql() +
                         "\nINSERT INTO docs (id, content)\nVALUES ('a', 'Fish; and ice.');\n"
                         "SELECT content FROM docs;\n");
  const ProgramEnd file = RunProgram({database(), "-f", folder_ / "script.sql", "-c",
                                      "SHOW SETTINGS LIKE 'x'", "--format", "csv"});
  EXPECT_EQ(file.exit_code, 0) << file.err;
  EXPECT_TRUE(file.out.ends_with("content\nFish; and ice.\n") ||
              file.out.ends_with("content\r\nFish; and ice.\r\n"))
      << file.out;
  const ProgramEnd piped =
      RunProgram({database(), "--json"}, {.input = "SELECT source FROM docs;\n.exit\nSELEC;\n"});
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ(piped.out, "[{\"source\":\"a\"}]\n");
}

TEST_F(ShellScenarioTest, WithoutADirectoryEverythingIsTemporary) {
  const ProgramEnd end = RunProgram({"--json", "-c", SetUpSql() + "SHOW COLLECTIONS"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_TRUE(Has(end.out, "\"name\":\"docs\""));
  EXPECT_TRUE(Has(RunProgram({"--json", "-c", "SHOW COLLECTIONS"}).out, "[]"));
}

TEST_F(ShellScenarioTest, LostCommitsAreGivenUpOnlyIfThatIsAccepted) {
  const std::string large(20'000, 'x');
  const ProgramEnd begin = RunProgram(
      {database(), "-c", SetUpSql() + "INSERT INTO docs (id, content) VALUES ('a', 'Fish.');"});
  ASSERT_EQ(begin.exit_code, 0) << begin.err;
  ASSERT_EQ(
      RunProgram({database(), "-c", "INSERT INTO docs (id, content) VALUES ('b', '" + large + "')"})
          .exit_code,
      0);
  std::filesystem::path log;
  for (const auto& entry : std::filesystem::directory_iterator(database() + "/rocksdb")) {
    const bool is_log = entry.path().extension() == ".log";
    if (is_log && (log.empty() || entry.file_size() > std::filesystem::file_size(log))) {
      log = entry.path();
    }
  }
  // In the middle of the second document.
  ASSERT_GT(std::filesystem::file_size(log), large.size());
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - large.size() / 2);
  const std::vector<std::string> query = {"--json", "-c", "SELECT source FROM docs"};
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), query.begin(), query.end());
    return RunProgram(arguments);
  };
  const ProgramEnd refused = run({database()});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(Has(refused.err, "--accept-loss")) << refused.err;
  const ProgramEnd accepted = run({database(), "--accept-loss"});
  EXPECT_EQ(accepted.exit_code, 0) << accepted.err;
  EXPECT_EQ(accepted.out, "[{\"source\":\"a\"}]\n");
  EXPECT_TRUE(Has(accepted.err, "acknowledged commits are gone")) << accepted.err;
  EXPECT_EQ(run({database()}).out, accepted.out);
}

TEST_F(ShellScenarioTest, ReadOnlyReadsAndRefusesToWrite) {
  ASSERT_EQ(RunProgram({database(), "-c", SetUpSql()}).exit_code, 0);
  const ProgramEnd read =
      RunProgram({database(), "--readonly", "--json", "-c", "SHOW COLLECTIONS"});
  EXPECT_EQ(read.exit_code, 0) << read.err;
  EXPECT_TRUE(Has(read.out, "\"name\":\"docs\""));
  const ProgramEnd write = RunProgram({database(), "--readonly", "-c", "DROP COLLECTION docs"});
  EXPECT_EQ(write.exit_code, 1);
  EXPECT_TRUE(Has(write.err, "the database is open read-only: " + database())) << write.err;
}

TEST_F(ShellScenarioTest, AnInterruptCancelsALongStatement) {
  WriteManyDocuments(20'000);
  Program program({database(), "--json", "-c", SetUpSql() + CopySql()});
  ASSERT_TRUE(program.WaitUntil([&program] { return Lines(program.out()).size() == 3; }));
  program.Kill(SIGINT);
  const ProgramEnd end = program.Wait();
  EXPECT_EQ(end.exit_code, 1) << end.err;
  EXPECT_TRUE(Has(end.err, "Cancelled")) << end.err;
  EXPECT_EQ(Lines(end.out).size(), 3u);
  // The directory is whole: what was committed is there and can be gone on with.
  const ProgramEnd after = RunProgram({database(), "--json", "-c", "SELECT COUNT(*) FROM docs"});
  EXPECT_EQ(after.exit_code, 0) << after.err;
  EXPECT_FALSE(Has(after.out, "20000"));
}

// A program on a terminal of its own.
class TerminalProgram {
 public:
  explicit TerminalProgram(const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {INTARSIA_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::unsetenv("HOME");  // No history.
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~TerminalProgram() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (terminal_ >= 0) ::close(terminal_);
  }
  TerminalProgram(const TerminalProgram&) = delete;
  TerminalProgram& operator=(const TerminalProgram&) = delete;

  bool is_open() const { return pid_ > 0; }
  void Type(std::string_view keys) const {
    EXPECT_EQ(::write(terminal_, keys.data(), keys.size()), std::ssize(keys));
  }
  // Reads until `part` has been shown since the last call; whether it was within a minute.
  bool Expect(const std::string& part) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (;;) {
      const size_t found = shown_.find(part);
      if (found != std::string::npos) {
        shown_.erase(0, found + part.size());
        return true;
      }
      pollfd waiting = {.fd = terminal_, .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 100) < 0 || std::chrono::steady_clock::now() > end) return false;
      if (waiting.revents == 0) continue;
      char buffer[4096];
      const ssize_t size = ::read(terminal_, buffer, sizeof(buffer));
      if (size <= 0) return false;
      shown_.append(buffer, static_cast<size_t>(size));
    }
  }
  const std::string& shown() const { return shown_; }
  int Wait() {
    // Reads on, because a program that writes to a full terminal waits.
    char buffer[4096];
    for (ssize_t size = 1; size > 0;) {
      size = ::read(terminal_, buffer, sizeof(buffer));
      if (size > 0) shown_.append(buffer, static_cast<size_t>(size));
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int terminal_ = -1;
  pid_t pid_ = -1;
  std::string shown_;
};

TEST_F(ShellScenarioTest, AnInterruptDoesNotEndAnInteractiveSession) {
  WriteManyDocuments(20'000);
  ASSERT_EQ(RunProgram({database(), "-c", SetUpSql()}).exit_code, 0);
  TerminalProgram program({database()});
  if (!program.is_open()) GTEST_SKIP() << "no terminal can be made here";
  ASSERT_TRUE(program.Expect("intarsia> ")) << program.shown();
  // What the first statement shows tells that the line was read: from then on the second one is
  // cancelled, whether it has begun or not.
  program.Type("SHOW COLLECTIONS; " + CopySql() + "\n");
  ASSERT_TRUE(program.Expect("lazy")) << program.shown();
  program.Type("\x03");
  ASSERT_TRUE(program.Expect("Cancelled")) << program.shown();
  ASSERT_TRUE(program.Expect("intarsia> ")) << program.shown();
  // At the prompt it only drops the line.
  program.Type("SELEC\x03");
  ASSERT_TRUE(program.Expect("intarsia> ")) << program.shown();
  program.Type("SELECT COUNT(*) AS FROM docs;\n");
  ASSERT_TRUE(program.Expect("error")) << program.shown();
  ASSERT_TRUE(program.Expect("intarsia> ")) << program.shown();
  program.Type("SELECT COUNT(*) FROM docs;\n");
  ASSERT_TRUE(program.Expect("count")) << program.shown();
  ASSERT_TRUE(program.Expect("intarsia> ")) << program.shown();
  program.Type(".exit\n");
  EXPECT_EQ(program.Wait(), 0) << program.shown();
}

}  // namespace
}  // namespace intarsia::client
