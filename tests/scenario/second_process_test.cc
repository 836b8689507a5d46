// Two processes and one directory: one writes, the others are told who it is, or read.
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/scenario/program.h"
#include "tests/scenario/scenario_fixture.h"

namespace intarsia::engine {
namespace {

using client::Program;
using client::ProgramEnd;
using client::RunProgram;

using SecondProcessTest = ScenarioFixture;

TEST_F(SecondProcessTest, IsToldPidAndProgramOfTheFirst) {
  Open({.program = "keeper"});
  const ProgramEnd second = RunProgram({database_path(), "-c", "DROP COLLECTION docs"});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_EQ(second.out, "");
  EXPECT_NE(second.err.find("keeper"), std::string::npos) << second.err;
  EXPECT_NE(second.err.find(std::to_string(::getpid())), std::string::npos) << second.err;
  // In one process too.
  const auto third = Engine::Open(database_path(), {});
  EXPECT_EQ(third.status().code(), StatusCode::kUnavailable);
  ExpectUnchangedAndUsable();
}

TEST_F(SecondProcessTest, MayReadWhatWasCommitted) {
  const ProgramEnd reader =
      RunProgram({database_path(), "--readonly", "--json", "-c",
                  "SELECT COUNT(*) FROM docs; SEARCH 'harbour' IN docs LIMIT 1; "
                  "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 2)"});
  EXPECT_EQ(reader.exit_code, 0) << reader.err;
  EXPECT_TRUE(reader.out.starts_with("[{\"count\":10}]\n")) << reader.out;
  EXPECT_EQ(RunProgram({database_path(), "--readonly", "-c", "DROP COLLECTION docs"}).exit_code, 1);
  ExpectUnchangedAndUsable();
}

TEST_F(SecondProcessTest, TakesOverWhenTheFirstIsKilled) {
  Close();
  Program first({database_path(), "--json", "-c",
                 "SELECT COUNT(*) FROM docs; "
                 "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 3000)"});
  ASSERT_TRUE(first.WaitUntil([&first] { return !first.out().empty(); }));
  const ProgramEnd second = RunProgram({database_path(), "-c", "SHOW MODELS"});
  EXPECT_EQ(second.exit_code, 2) << second.out;
  EXPECT_NE(second.err.find(std::to_string(first.pid())), std::string::npos) << second.err;
  first.Kill(SIGKILL);
  EXPECT_EQ(first.Wait().signal, SIGKILL);
  Open();
  ExpectUnchangedAndUsable();
}

}  // namespace
}  // namespace intarsia::engine
