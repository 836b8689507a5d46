#include "client/shell/shell.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace intarsia::client {
namespace {

using query::Outcome;
using query::ResultSet;
using query::Value;

// Answers statements from a table and writes down what it was asked.
class FakeRunner final : public StatementRunner {
 public:
  using Behaviour = std::function<Outcome<ResultSet>(const RunContext&)>;

  Outcome<ResultSet> Run(std::string_view sql, const RunContext& context) override {
    statements.emplace_back(sql);
    const auto found = behaviours.find(std::string(sql));
    return found == behaviours.end() ? ResultSet{} : found->second(context);
  }
  int64_t num_pending() const override { return 0; }
  Status Finish(const CancelToken*) override { return Status::Ok(); }
  std::string Banner() const override { return "fake"; }

  std::vector<std::string> statements;
  std::map<std::string, Behaviour> behaviours;
};

// Gives lines from a list.
class FakeReader final : public LineReader {
 public:
  explicit FakeReader(std::vector<ReadLine> lines) : lines_(std::move(lines)) {}
  ReadLine Read(std::string_view prompt) override {
    prompts.emplace_back(prompt);
    return next_ < lines_.size() ? lines_[next_++] : ReadLine{};
  }
  void AddHistory(std::string_view line) override { history.emplace_back(line); }

  std::vector<std::string> prompts;
  std::vector<std::string> history;

 private:
  const std::vector<ReadLine> lines_;
  size_t next_ = 0;
};

ReadLine Line(std::string text) { return {ReadOutcome::kLine, std::move(text)}; }

class ShellTest : public ::testing::Test {
 protected:
  Shell Make(OutputMode mode, bool is_interactive = false) {
    ShellOptions options;
    options.format.mode = mode;
    options.is_interactive = is_interactive;
    options.is_on_terminal = is_interactive;
    options.columns = [] { return int64_t{80}; };
    options.error_columns = [] { return int64_t{80}; };
    options.now_ms = [this] { return now_ms_; };
    return Shell(&runner_, &out_, &err_, std::move(options));
  }

  void SetUp() override {
    directory_ = std::filesystem::path(::testing::TempDir()) /
                 ("intarsia_shell_test_" + std::to_string(getpid()));
    std::filesystem::create_directories(directory_);
    runner_.behaviours["one"] = [](const RunContext&) {
      ResultSet result;
      result.columns = {{"n"}};
      result.rows.push_back({Value(1)});
      result.notices = {"fewer rows than LIMIT"};
      return result;
    };
    runner_.behaviours["bad x"] = [](const RunContext&) -> Outcome<ResultSet> {
      return query::BinderError({4, 5}, "fact", "Hint.");
    };
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string WriteFile(const std::string& name, const std::string& text) {
    const std::filesystem::path path = directory_ / name;
    std::ofstream(path) << text;
    return path.string();
  }

  using Words = std::vector<std::string>;

  FakeRunner runner_;
  std::ostringstream out_;
  std::ostringstream err_;
  int64_t now_ms_ = 0;
  std::filesystem::path directory_;
};

TEST_F(ShellTest, ScriptRunsStatementsInOrder) {
  Shell shell = Make(OutputMode::kJson);
  EXPECT_EQ(shell.RunScript("a 'x;y'; -- c\n one;;\nlast "), ScriptOutcome::kOk);
  EXPECT_EQ(runner_.statements, (Words{"a 'x;y'", "one", "last"}));
  EXPECT_EQ(out_.str(), "[]\n[{\"n\":1}]\n[]\n");
  EXPECT_EQ(err_.str(), "Notice: fewer rows than LIMIT\n");
}

TEST_F(ShellTest, ScriptStopsAtTheFirstFailure) {
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript("a;\n  bad x; b;"), ScriptOutcome::kFailed);
  EXPECT_EQ(runner_.statements, (Words{"a", "bad x"}));
  EXPECT_EQ(err_.str(), "Binder error: fact\nLINE 2:   bad x; b;\n              ^\nHint.\n");
}

TEST_F(ShellTest, ErrorsDoNotControlTheTerminal) {
  runner_.behaviours["evil"] = [](const RunContext&) -> Outcome<ResultSet> {
    return query::CatalogError({}, "no model \x1B]0;x\a");
  };
  Shell shell = Make(OutputMode::kBox);
  EXPECT_EQ(shell.RunScript("evil"), ScriptOutcome::kFailed);
  EXPECT_EQ(err_.str().find('\x1B'), std::string::npos);
}

TEST_F(ShellTest, VerticalTerminatorShowsLines) {
  Shell shell = Make(OutputMode::kBox);
  EXPECT_EQ(shell.RunScript("one\\G"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "n = 1\n");
}

TEST_F(ShellTest, TablesOfMarkdownDoNotRunIntoEachOther) {
  Shell shell = Make(OutputMode::kMarkdown);
  EXPECT_EQ(shell.RunScript("one; other; one; .mode csv\n"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "| n |\n| ---: |\n| 1 |\n\n| n |\n| ---: |\n| 1 |\n");
}

TEST_F(ShellTest, CommandsStandOnLinesOfTheirOwn) {
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript("-- comment\n.mode csv\none;\n  .mode line\none;;\n.exit\none;"),
            ScriptOutcome::kExit);
  EXPECT_EQ(out_.str(), "n\n1\nn = 1\n");
  EXPECT_EQ(runner_.statements, (Words{"one", "one"}));
}

TEST_F(ShellTest, CommandsStandForStatements) {
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript(".models\n.coll\n.cache\n.cache 'my docs'\n.schema docs\n.settings "
                            "search%\n"),
            ScriptOutcome::kOk);
  EXPECT_EQ(runner_.statements,
            (Words{"SHOW MODELS", "SHOW COLLECTIONS", "SHOW CACHE", "SHOW CACHE FOR \"my docs\"",
                   "DESCRIBE docs", "SHOW SETTINGS LIKE 'search%'"}));
}

TEST_F(ShellTest, WrongCommandsFail) {
  for (const char* command : {".weather", ".mode xml", ".maxrows many", ".timer maybe", ".read",
                              ".schema", ".output /no/such/place/x", ".help weather"}) {
    Shell shell = Make(OutputMode::kTsv);
    EXPECT_EQ(shell.RunScript(command), ScriptOutcome::kFailed) << command;
  }
}

TEST_F(ShellTest, HelpShowsCommandsAndOptions) {
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript(".help\n.help answer\n.help create collection"), ScriptOutcome::kOk);
  EXPECT_NE(out_.str().find(".collections"), std::string::npos);
  EXPECT_NE(out_.str().find("on_no_evidence"), std::string::npos);
  EXPECT_NE(out_.str().find("chunk_tokens"), std::string::npos);
}

TEST_F(ShellTest, HelpIsFoundByTheFirstWordsOfAStatement) {
  Shell shell = Make(OutputMode::kTsv);
  for (const char* words :
       {"set", "set default", "show cache", "PIN", "unpin cache", "clear", "restore", "repair",
        "describe", "check model", "create", "explain analyze", "drop collection"}) {
    EXPECT_EQ(shell.RunScript(std::string(".help ") + words), ScriptOutcome::kOk) << words;
  }
}

TEST_F(ShellTest, HelpIsWholeOnANarrowTerminal) {
  ShellOptions options;
  options.columns = [] { return int64_t{60}; };
  options.error_columns = options.columns;
  options.now_ms = [] { return int64_t{0}; };
  Shell shell(&runner_, &out_, &err_, std::move(options));
  EXPECT_EQ(shell.RunScript(".help\n.help answer"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str().find("…"), std::string::npos);
  EXPECT_NE(out_.str().find("Answers a question from a collection, with citations.\n\nANSWER"),
            std::string::npos);
}

TEST_F(ShellTest, ReadRunsAFileAndOutputWritesOne) {
  const std::string script = WriteFile("a.sql", "one;\nbad x;\n");
  const std::string output = (directory_ / "out.csv").string();
  Shell shell = Make(OutputMode::kCsv);
  EXPECT_EQ(shell.RunScript(".output '" + output + "'\none;\n.output\n.read '" + script + "'\na;"),
            ScriptOutcome::kFailed);
  EXPECT_EQ(out_.str(), "n\n1\n");
  std::ifstream file(output);
  std::stringstream written;
  written << file.rdbuf();
  EXPECT_EQ(written.str(), "n\n1\n");
  EXPECT_NE(err_.str().find("LINE 2: bad x;"), std::string::npos);
}

TEST_F(ShellTest, ErrorsOfFilesNameTheFileAndTheLine) {
  runner_.behaviours["late"] = [](const RunContext&) -> Outcome<ResultSet> {
    return Status(StatusCode::kDeadlineExceeded, "fact");
  };
  const std::string script = WriteFile("a.sql", "one;\n\nlate;\n");
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript("one;\n.read '" + script + "'"), ScriptOutcome::kFailed);
  EXPECT_TRUE(err_.str().ends_with("Timeout: fact\nIn " + script + ", line 3.\n")) << err_.str();
  err_.str("");
  EXPECT_EQ(shell.RunScript("bad x", "b.sql"), ScriptOutcome::kFailed);
  EXPECT_EQ(err_.str(), "Binder error: fact\nLINE 1: bad x\n            ^\nHint.\nIn b.sql.\n");
  err_.str("");
  EXPECT_EQ(shell.RunScript("one;\nlate;"), ScriptOutcome::kFailed);
  EXPECT_TRUE(err_.str().ends_with("Timeout: fact\nIn the statement of line 2.\n")) << err_.str();
}

TEST_F(ShellTest, LongMessagesBreakBetweenWords) {
  runner_.behaviours["long"] = [](const RunContext&) -> Outcome<ResultSet> {
    return query::InputError({}, std::string(72, 'a') + " bcdef ghi", "Hint.");
  };
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript("long"), ScriptOutcome::kFailed);
  EXPECT_EQ(err_.str(), "Input error:\n" + std::string(72, 'a') + " bcdef\nghi\nHint.\n");
}

TEST_F(ShellTest, AFailedOutputCommandLeavesTheOldOne) {
  const std::string output = (directory_ / "out.txt").string();
  Shell shell = Make(OutputMode::kTsv);
  EXPECT_EQ(shell.RunScript(".output '" + output + "'"), ScriptOutcome::kOk);
  EXPECT_EQ(shell.RunScript(".output /no/such/place/x"), ScriptOutcome::kFailed);
  EXPECT_EQ(shell.RunScript("one;"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "");
}

TEST_F(ShellTest, WordsThatOtherShellsKnowAreCommandsAtThePrompt) {
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  FakeReader reader({Line("one"), Line("exit;"), Line("HELP"), Line(" exit ;"), Line("never;")});
  shell.RunInteractive(&reader);
  EXPECT_EQ(runner_.statements, (Words{"one\nexit"}));
  EXPECT_NE(out_.str().find("Commands, which may be shortened:"), std::string::npos);
}

TEST_F(ShellTest, FilesThatReadThemselvesEnd) {
  const std::string script = WriteFile("loop.sql", "one;\n");
  std::ofstream(script) << ".read '" << script << "'\n";
  Shell shell = Make(OutputMode::kCsv);
  EXPECT_EQ(shell.RunScript(".read '" + script + "'"), ScriptOutcome::kFailed);
  EXPECT_NE(err_.str().find("too deep"), std::string::npos);
}

TEST_F(ShellTest, TimerGoesToErrorsWhereResultsAreForPrograms) {
  runner_.behaviours["slow"] = [this](const RunContext&) {
    now_ms_ += 1500;
    return ResultSet{};
  };
  Shell shell = Make(OutputMode::kJson);
  EXPECT_EQ(shell.RunScript(".timer on\nslow;"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "[]\n");
  EXPECT_EQ(err_.str(), "Time: 1.5 s\n");
}

TEST_F(ShellTest, InteractiveStatementsMayTakeSeveralLines) {
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  FakeReader reader({Line("one"), Line(""), Line("; two 'a"), Line("b';"), Line(".mode json")});
  shell.RunInteractive(&reader);
  EXPECT_EQ(runner_.statements, (Words{"one", "two 'a\nb'"}));
  EXPECT_EQ(reader.prompts, (Words{"intarsia> ", "     ...> ", "     ...> ", "     ...> ",
                                   "intarsia> ", "intarsia> "}));
  EXPECT_EQ(reader.history, (Words{"one", "; two 'a", "b';", ".mode json"}));
  EXPECT_EQ(out_.str(), "┌───┐\n│ n │\n├───┤\n│ 1 │\n└───┘\n1 row, 0 ms\nOK, 0 ms\n");
}

TEST_F(ShellTest, AStatementOfSeveralLinesIsOneEntryOfTheHistory) {
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  FakeReader reader({Line("SELECT a"), Line("FROM b;"), Line("one -- not"), Line("two;")});
  shell.RunInteractive(&reader);
  EXPECT_EQ(reader.history, (Words{"SELECT a FROM b;", "one -- not", "two;"}));
}

TEST_F(ShellTest, InteractiveFailureDropsTheLineAndGoesOn) {
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  FakeReader reader({Line("bad x; one; half"), Line("one;")});
  shell.RunInteractive(&reader);
  EXPECT_EQ(runner_.statements, (Words{"bad x", "one"}));
}

TEST_F(ShellTest, InterruptAtThePromptDropsWhatWasTyped) {
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  FakeReader reader(
      {Line("half"), {ReadOutcome::kInterrupted, ""}, Line("one;"), Line(".exit"), Line("never;")});
  shell.RunInteractive(&reader);
  EXPECT_EQ(runner_.statements, (Words{"one"}));
}

TEST_F(ShellTest, AnswerIsShownWhileItIsGenerated) {
  runner_.behaviours["answer"] = [](const RunContext& context) {
    if (context.answer_text != nullptr) {
      context.answer_text->Write("Thirty ");
      context.answer_text->Write("days\x1B[1].");
    }
    ResultSet result;
    result.columns = {{"answer"}, {"citations"}};
    result.rows.push_back(
        {Value("Thirty days[1]."),
         Value(Value::List{Value(Value::Object{{"n", Value(1)}, {"source", Value("a.md")}})})});
    return result;
  };
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  EXPECT_EQ(shell.RunScript("answer;"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "Thirty days\uFFFD[1].\n\n[1] a.md\n1 row, 0 ms\n");
  out_.str("");
  EXPECT_EQ(shell.RunScript(".mode json\nanswer;"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(),
            "[{\"answer\":\"Thirty days[1].\",\"citations\":[{\"n\":1,\"source\":\"a.md\"}]}]\n"
            "1 row, 0 ms\n");
}

TEST_F(ShellTest, ProgressIsForTerminalsOnly) {
  bool has_progress = true;
  runner_.behaviours["copy"] = [&has_progress](const RunContext& context) {
    has_progress = context.progress != nullptr;
    return ResultSet{};
  };
  Shell shell = Make(OutputMode::kJson);
  EXPECT_EQ(shell.RunScript("copy;"), ScriptOutcome::kOk);
  EXPECT_FALSE(has_progress);
}

TEST_F(ShellTest, FootersAreShownAsTheStatementGivesThem) {
  runner_.behaviours["search"] = [](const RunContext&) {
    ResultSet result;
    result.footer = "3 rows, 4 ms (hybrid)";
    return result;
  };
  Shell shell = Make(OutputMode::kBox, /*is_interactive=*/true);
  EXPECT_EQ(shell.RunScript("search"), ScriptOutcome::kOk);
  EXPECT_EQ(out_.str(), "3 rows, 4 ms (hybrid)\n");
}

TEST_F(ShellTest, UnterminatedScriptIsHandedOnForItsError) {
  Shell shell = Make(OutputMode::kJson);
  EXPECT_EQ(shell.RunScript("one 'abc  \n"), ScriptOutcome::kOk);
  EXPECT_EQ(runner_.statements, (Words{"one 'abc"}));
}

}  // namespace
}  // namespace intarsia::client
