// Shell: runs scripts and interactive lines: statements through a StatementRunner, dot commands by
// itself.
//
// Results go to `out`; errors, notices and progress to `err`. Nothing that comes from documents or
// models reaches either with control characters while they are shown to a person.
//
// Thread safety: owned by one thread.
// Lifetime: runner, streams, interrupt handler and what the functions refer to must outlive it.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>

#include "client/shell/dot_command.h"
#include "client/shell/interrupt.h"
#include "client/shell/line_reader.h"
#include "client/shell/result_format.h"
#include "client/shell/statement_runner.h"
#include "query/parser.h"

namespace intarsia::client {

struct ShellOptions {
  FormatOptions format;
  bool is_interactive = false;             // A person types: results have footers.
  bool is_on_terminal = false;             // A person reads `out`: answers show as they come.
  bool shows_progress = false;             // `err` is a terminal.
  std::function<int64_t()> columns;        // Of the terminal behind `out` now; 0: there is none.
  std::function<int64_t()> error_columns;  // The same of `err`.
  std::function<int64_t()> now_ms;         // A clock that never goes back.
  InterruptHandler* interrupts = nullptr;  // May be null.
};

enum class ScriptOutcome : uint8_t {
  kOk,
  kFailed,  // A statement or command failed, and the error has been shown.
  kExit,    // The script asked to leave.
};

class Shell {
 public:
  Shell(StatementRunner* runner, std::ostream* out, std::ostream* err, ShellOptions options);

  // Runs statements and commands one after another up to the first that fails. The last one may be
  // without its semicolon. An error names the file, unless `file` is empty, and the line.
  ScriptOutcome RunScript(std::string_view script, const std::string& file = {});

  // Reads lines until there are no more or .exit; what fails does not end it.
  void RunInteractive(LineReader* reader);

 private:
  enum class MoreInput : uint8_t { kMayCome, kNone };

  // What runs now.
  struct Running {
    std::string_view script;
    std::string file;   // Empty: not of a file.
    int64_t begin = 0;  // Of the statement or command in the script.
  };

  // Runs what is complete in script[*offset..] and moves the offset behind it.
  ScriptOutcome Consume(std::string_view script, MoreInput more, int64_t* offset);
  ScriptOutcome RunPiece(std::string_view script, const query::ScriptPiece& piece);
  // Statements that dot commands stand for.
  ScriptOutcome RunStatement(const std::string& sql);
  void ShowResult(const query::ResultSet& result, query::Terminator terminator, bool was_streamed,
                  int64_t duration_ms);

  ScriptOutcome RunCommand(std::string_view line);
  ScriptOutcome RunCommand(const DotCommand& command);
  query::Failure ShowHelp(const DotCommand& command);
  query::Failure SetMode(const DotCommand& command);
  query::Failure SetMaxRows(const DotCommand& command);
  query::Failure SetOutput(const DotCommand& command);
  // `file` may be null. Errors: what was lost of the file before it.
  query::Failure ReplaceOutput(std::unique_ptr<std::ofstream> file);
  query::Failure SetTimer(const DotCommand& command);
  ScriptOutcome ReadScript(const std::string& path);
  ScriptOutcome Report(const query::Diagnostic& diagnostic, std::string_view script);
  // "In load.sql, line 4.", where the error itself does not say; else empty.
  std::string PlaceOf(const query::Diagnostic& diagnostic) const;
  // Text for a person, who reads it in the width of the terminal, if there is one.
  void Tell(const std::string& text);

  std::ostream& results() { return output_ ? *output_ : out_; }
  // Whether results are shown to a person: not in a file, and not for a program to read.
  bool is_shown_to_person(query::Terminator terminator) const;

  StatementRunner& runner_;
  std::ostream& out_;
  std::ostream& err_;
  const ShellOptions options_;
  FormatOptions format_;
  bool shows_time_ = false;
  bool has_open_end_ = false;              // The last result could run into the next.
  std::unique_ptr<std::ofstream> output_;  // Of .output; null: out_.
  int64_t read_depth_ = 0;                 // Of .read within .read.
  Running running_;
};

}  // namespace intarsia::client
