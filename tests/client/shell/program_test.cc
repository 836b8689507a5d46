#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace intarsia::client {
namespace {

struct Ended {
  int exit_code = -1;
  std::string out;
  std::string err;
};

// The program itself, as other programs call it: not on a terminal.
class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(::testing::TempDir()) /
                 ("intarsia_program_test_" + std::to_string(getpid()));
    std::filesystem::create_directories(directory_);
    database_ = (directory_ / "kb").string();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // `arguments` as the shell of the system reads them.
  Ended Run(const std::string& arguments) const {
    const std::string err_path = (directory_ / "err").string();
    const std::string command =
        std::string(INTARSIA_PROGRAM) + " " + arguments + " 2>" + err_path + " </dev/null";
    return RunCommand(command, err_path);
  }

  Ended Pipe(const std::string& input, const std::string& arguments) const {
    const std::string in_path = (directory_ / "in").string();
    const std::string err_path = (directory_ / "err").string();
    std::ofstream(in_path) << input;
    return RunCommand(
        std::string(INTARSIA_PROGRAM) + " " + arguments + " 2>" + err_path + " <" + in_path,
        err_path);
  }

  std::filesystem::path directory_;
  std::string database_;

 private:
  static Ended RunCommand(const std::string& command, const std::string& err_path) {
    Ended ended;
    std::FILE* const pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return ended;
    std::array<char, 4096> buffer{};
    for (size_t size = 0; (size = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
      ended.out.append(buffer.data(), size);
    }
    const int status = pclose(pipe);
    ended.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::stringstream err;
    err << std::ifstream(err_path).rdbuf();
    ended.err = err.str();
    return ended;
  }
};

TEST_F(ProgramTest, StatementsPrintOneJsonArrayEach) {
  const Ended ended = Run(database_ + " -c \"SHOW COLLECTIONS; SHOW MODELS;\" --format json");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.out, "[]\n[]\n");
  EXPECT_EQ(ended.err, "");
}

TEST_F(ProgramTest, FailedStatementEndsWithOneAndTheErrorIsApart) {
  const Ended ended = Run(database_ + " -c \"SHOW MODELS; SELECT * FORM x; SHOW MODELS\" --json");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_EQ(ended.out, "[]\n");
  EXPECT_EQ(ended.err,
            "Parser error: expected FROM, found \"FORM\"\n"
            "LINE 1: SHOW MODELS; SELECT * FORM x; SHOW MODELS\n"
            "                              ^\n"
            "Did you mean \"FROM\"?\n");
}

TEST_F(ProgramTest, MissingCollectionIsAFailedStatement) {
  const Ended ended = Run(database_ + " -c \"DESCRIBE nothing\"");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(ended.err.starts_with("Catalog error: ")) << ended.err;
}

TEST_F(ProgramTest, PipedInputIsAScriptWithCommands) {
  const Ended ended = Pipe(".mode csv\nSHOW SETTINGS LIKE 'search.limit';\n", database_);
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_TRUE(ended.out.starts_with("name,value,default,values,help\nsearch.limit,10,10,"))
      << ended.out;
}

TEST_F(ProgramTest, ScriptsComeFromPipesAndWithAByteOrderMarkToo) {
  const Ended piped = Pipe("\xEF\xBB\xBFSHOW COLLECTIONS;\r\n", database_ + " --json -f -");
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ(piped.out, "[]\n");
  EXPECT_EQ(Run(database_ + " -f /dev/null").exit_code, 0);
  EXPECT_EQ(Run(database_ + " -f .").exit_code, 2);
}

TEST_F(ProgramTest, SettingsLastFromOneCommandToTheNext) {
  const Ended ended =
      Run(database_ + " -c \"SET search.limit = 3\" -c \"SHOW SETTINGS LIKE 'search.limit'\"");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_NE(ended.out.find("search.limit\t3\t10"), std::string::npos) << ended.out;
}

TEST_F(ProgramTest, BadUsageEndsWithTwo) {
  EXPECT_EQ(Run("--weather").exit_code, 2);
  EXPECT_EQ(Run(database_ + " --format xml -c \"SHOW MODELS\"").exit_code, 2);
  EXPECT_EQ(Run(database_ + " -f /no/such/file.sql").exit_code, 2);
  EXPECT_EQ(Run("/proc/no/such/place -c \"SHOW MODELS\"").exit_code, 2);
  EXPECT_EQ(Run("intarsia://127.0.0.1:1 -c \"SHOW MODELS\"").exit_code, 2);
}

TEST_F(ProgramTest, WithoutADirectoryTheDatabaseIsTemporary) {
  const Ended ended = Run("--json -c \"SHOW COLLECTIONS\"");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.out, "[]\n");
}

}  // namespace
}  // namespace intarsia::client
