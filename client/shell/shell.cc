#include "client/shell/shell.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "client/shell/answer_view.h"
#include "client/shell/help_text.h"
#include "client/shell/progress_line.h"
#include "client/shell/script_file.h"
#include "client/shell/terminal_text.h"
#include "client/shell/word_wrap.h"
#include "query/ast_printer.h"
#include "query/lexer.h"

namespace intarsia::client {
namespace {

using query::Diagnostic;
using query::Failure;
using query::InputError;
using query::ResultSet;
using query::ScriptPiece;
using query::Terminator;
using query::Token;
using query::TokenKind;

constexpr std::string_view kPrompt = "intarsia> ";
constexpr std::string_view kMorePrompt = "     ...> ";
constexpr int64_t kReadDepthMax = 16;
constexpr int64_t kErrorColumns = 100;  // Where no terminal says.

std::string_view Slice(std::string_view text, int64_t begin, int64_t end) {
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// Whether only blanks stand before `offset` on its line.
bool IsFirstOnLine(std::string_view script, int64_t offset) {
  while (offset > 0) {
    const char c = script[static_cast<size_t>(--offset)];
    if (c == '\n') return true;
    if (c != ' ' && c != '\t' && c != '\r') return false;
  }
  return true;
}

// The rest of a script as a statement, without the blanks behind it.
ScriptPiece LastPiece(std::string_view script, int64_t begin) {
  ScriptPiece piece;
  const size_t last = script.find_last_not_of(" \t\r\n");
  piece.range = {begin, static_cast<int64_t>(last) + 1};
  piece.next = static_cast<int64_t>(script.size());
  return piece;
}

// Whether nothing of `pending` waits for another line.
bool IsComplete(std::string_view pending) {
  int64_t offset = 0;
  while (true) {
    const Token first = query::Lexer(pending, offset).Next();
    if (first.kind == TokenKind::kEnd) return true;
    if (first.kind == TokenKind::kDot && IsFirstOnLine(pending, first.range.begin)) return true;
    const std::optional<ScriptPiece> piece = query::NextPiece(pending, first.range.begin);
    if (!piece) return false;
    offset = piece->next;
  }
}

// The command that a line means which is no SQL: people who know other shells leave by `exit`.
// Empty: none.
std::string_view CommandMeantBy(std::string_view line) {
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  const std::string_view word = line.substr(begin, line.find_last_not_of(" \t;") + 1 - begin);
  for (const std::string_view command : {".exit", ".quit", ".help"}) {
    if (query::EqualsIgnoringCase(word, command.substr(1))) return command;
  }
  return {};
}

// Adds the lines of a statement to the history: as one entry, so that it is called back as a whole,
// unless a comment or a text reaches over the end of a line.
void RememberLines(std::vector<std::string>* lines, LineReader* reader) {
  std::string joined;
  bool can_join = true;
  for (const std::string& line : *lines) {
    const bool is_last = &line == &lines->back();
    const bool is_open = std::ranges::count(line, '\'') % 2 != 0 ||
                         line.find("--") != std::string::npos ||
                         line.find("/*") != std::string::npos;
    can_join = can_join && (is_last || !is_open);
    joined += (joined.empty() ? "" : " ") + line;
  }
  if (can_join && !lines->empty()) {
    reader->AddHistory(joined);
  } else {
    for (const std::string& line : *lines) reader->AddHistory(line);
  }
  lines->clear();
}

// Shows an answer while it is generated.
class AnswerStream final : public TextSink {
 public:
  AnswerStream(std::ostream* out, ProgressLine* progress, int64_t columns)
      : out_(*out), progress_(progress), wrap_(columns) {}

  void Write(std::string_view text) override {
    if (text.empty()) return;
    if (progress_ != nullptr) progress_->Clear();
    has_written_ = true;
    out_ << wrap_.Push(SafeText(text)) << std::flush;
  }

  // Shows what is held back, and ends the line.
  void Finish() {
    if (has_written_) out_ << wrap_.Finish() << "\n" << std::flush;
  }

  bool has_written() const { return has_written_; }

 private:
  std::ostream& out_;
  ProgressLine* const progress_;
  WordWrap wrap_;
  bool has_written_ = false;
};

std::string Footer(const ResultSet& result, int64_t duration_ms) {
  if (!result.footer.empty()) return SafeLine(result.footer);
  const std::string time = HumanDuration(duration_ms);
  if (result.columns.empty()) return "OK, " + time;
  const auto num_rows = static_cast<int64_t>(result.rows.size());
  return GroupDigits(num_rows) + (num_rows == 1 ? " row, " : " rows, ") + time;
}

}  // namespace

Shell::Shell(StatementRunner* runner, std::ostream* out, std::ostream* err, ShellOptions options)
    : runner_(*runner),
      out_(*out),
      err_(*err),
      options_(std::move(options)),
      format_(options_.format) {}

ScriptOutcome Shell::RunScript(std::string_view script, const std::string& file) {
  const Running outer = std::exchange(running_, {.script = script, .file = file});
  int64_t offset = 0;
  const ScriptOutcome outcome = Consume(script, MoreInput::kNone, &offset);
  running_ = outer;
  return outcome;
}

void Shell::RunInteractive(LineReader* reader) {
  std::string pending;
  std::vector<std::string> lines;  // of pending, that are not yet in the history
  while (true) {
    // One that ended a statement or dropped a line is dealt with.
    if (options_.interrupts != nullptr) options_.interrupts->TakeInterrupt();
    const ReadLine read = reader->Read(pending.empty() ? kPrompt : kMorePrompt);
    if (read.outcome == ReadOutcome::kEnd) return;
    if (read.outcome == ReadOutcome::kInterrupted) {
      RememberLines(&lines, reader);
      pending.clear();
      continue;
    }
    if (read.line.find_first_not_of(" \t") != std::string::npos) lines.push_back(read.line);
    const std::string_view command = pending.empty() ? CommandMeantBy(read.line) : "";
    pending += command.empty() ? read.line : command;
    pending += '\n';
    // Before it runs, because the program may be ended while it does.
    if (IsComplete(pending)) RememberLines(&lines, reader);
    int64_t offset = 0;
    const ScriptOutcome outcome = Consume(pending, MoreInput::kMayCome, &offset);
    if (outcome == ScriptOutcome::kExit) return;
    if (outcome == ScriptOutcome::kFailed) offset = static_cast<int64_t>(pending.size());
    pending.erase(0, static_cast<size_t>(offset));
  }
}

ScriptOutcome Shell::Consume(std::string_view script, MoreInput more, int64_t* offset) {
  const auto size = static_cast<int64_t>(script.size());
  while (true) {
    const Token first = query::Lexer(script, *offset).Next();
    if (first.kind == TokenKind::kEnd) {
      *offset = size;
      return ScriptOutcome::kOk;
    }
    running_.begin = first.range.begin;
    ScriptOutcome outcome = ScriptOutcome::kOk;
    if (first.kind == TokenKind::kSemicolon || first.kind == TokenKind::kVertical) {
      *offset = first.range.end;
    } else if (first.kind == TokenKind::kDot && IsFirstOnLine(script, first.range.begin)) {
      const size_t newline = script.find('\n', static_cast<size_t>(first.range.begin));
      const int64_t end = newline == std::string_view::npos ? size : static_cast<int64_t>(newline);
      outcome = RunCommand(Slice(script, first.range.begin, end));
      *offset = end;
    } else {
      std::optional<ScriptPiece> piece = query::NextPiece(script, first.range.begin);
      if (!piece) {
        if (more == MoreInput::kMayCome) return ScriptOutcome::kOk;
        piece = LastPiece(script, first.range.begin);
      }
      outcome = RunPiece(script, *piece);
      *offset = piece->next;
    }
    if (outcome != ScriptOutcome::kOk) return outcome;
  }
}

bool Shell::is_shown_to_person(Terminator terminator) const {
  return options_.is_on_terminal && output_ == nullptr && format_.mode == OutputMode::kBox &&
         terminator == Terminator::kSemicolon;
}

ScriptOutcome Shell::RunPiece(std::string_view script, const ScriptPiece& piece) {
  CancelToken cancel;
  ProgressLine progress(&err_, {.columns = options_.error_columns(), .now_ms = options_.now_ms});
  AnswerStream stream(&out_, &progress, options_.columns());
  RunContext context;
  context.cancel = &cancel;
  if (options_.shows_progress) context.progress = &progress;
  if (is_shown_to_person(piece.terminator)) context.answer_text = &stream;

  if (options_.interrupts != nullptr) options_.interrupts->BeginStatement(&cancel);
  const int64_t begin_ms = options_.now_ms();
  auto outcome = runner_.Run(Slice(script, piece.range.begin, piece.range.end), context);
  const int64_t duration_ms = options_.now_ms() - begin_ms;
  if (options_.interrupts != nullptr) options_.interrupts->EndStatement();
  progress.Clear();
  stream.Finish();

  if (!outcome.ok()) {
    Shift(piece.range.begin, &outcome.diagnostic());
    return Report(outcome.diagnostic(), script);
  }
  ShowResult(*outcome, piece.terminator, stream.has_written(), duration_ms);
  if (results().good()) return ScriptOutcome::kOk;
  results().clear();
  Diagnostic diagnostic = InputError({}, "the result cannot be written");
  diagnostic.error_class = query::ErrorClass::kIo;
  return Report(diagnostic, {});
}

ScriptOutcome Shell::RunStatement(const std::string& sql) {
  return RunPiece(sql, LastPiece(sql, 0));
}

void Shell::ShowResult(const ResultSet& result, Terminator terminator, bool was_streamed,
                       int64_t duration_ms) {
  for (const std::string& notice : result.notices) Tell("Notice: " + SafeLine(notice) + "\n");
  FormatOptions format = format_;
  format.columns_max = output_ != nullptr ? 0 : options_.columns();
  if (terminator == Terminator::kVertical) format.mode = OutputMode::kLine;
  if (is_shown_to_person(terminator) && IsAnswer(result)) {
    out_ << FormatAnswer(result, was_streamed ? AnswerText::kAlreadyShown : AnswerText::kShow,
                         format.columns_max);
  } else {
    const std::string text = FormatResult(result, format);
    // Without a blank line two tables of Markdown are one.
    const bool is_open_ended =
        format.mode == OutputMode::kMarkdown || format.mode == OutputMode::kLine;
    if (is_open_ended && has_open_end_ && !text.empty()) results() << "\n";
    has_open_end_ = is_open_ended && !options_.is_interactive && (has_open_end_ || !text.empty());
    results() << text;
  }
  results() << std::flush;
  if (options_.is_interactive) {
    out_ << Footer(result, duration_ms) << "\n" << std::flush;
  } else if (shows_time_) {
    err_ << "Time: " << HumanDuration(duration_ms) << "\n" << std::flush;
  }
}

ScriptOutcome Shell::Report(const Diagnostic& diagnostic, std::string_view script) {
  const int64_t columns = options_.error_columns();
  // Messages quote names and paths, which may hold anything.
  Tell(SafeText(RenderDiagnostic(diagnostic, script, columns > 0 ? columns : kErrorColumns)) +
       PlaceOf(diagnostic));
  return ScriptOutcome::kFailed;
}

std::string Shell::PlaceOf(const Diagnostic& diagnostic) const {
  const bool has_line = diagnostic.has_place() || options_.is_interactive;
  if (running_.file.empty() && (has_line || running_.script.find('\n') == std::string_view::npos))
    return {};
  const std::string line =
      "line " + std::to_string(query::PositionAt(running_.script, running_.begin).line);
  if (running_.file.empty()) return "In the statement of " + line + ".\n";
  const std::string file = "In " + SafeLine(running_.file);
  return file + (diagnostic.has_place() ? "" : ", " + line) + ".\n";
}

void Shell::Tell(const std::string& text) {
  WordWrap wrap(options_.error_columns());
  err_ << wrap.Push(text) << wrap.Finish() << std::flush;
}

ScriptOutcome Shell::RunCommand(std::string_view line) {
  const auto command = ParseDotCommand(line);
  if (!command.ok()) return Report(command.diagnostic(), {});
  return RunCommand(*command);
}

ScriptOutcome Shell::RunCommand(const DotCommand& command) {
  const std::string argument = command.arguments.empty() ? "" : command.arguments.front();
  Failure failure;
  switch (command.kind) {
    case DotCommandKind::kCache:
      return RunStatement(argument.empty() ? "SHOW CACHE"
                                           : "SHOW CACHE FOR " + query::QuoteName(argument));
    case DotCommandKind::kCollections:
      return RunStatement("SHOW COLLECTIONS");
    case DotCommandKind::kExit:
      return ScriptOutcome::kExit;
    case DotCommandKind::kModels:
      return RunStatement("SHOW MODELS");
    case DotCommandKind::kSettings:
      return RunStatement(argument.empty() ? "SHOW SETTINGS"
                                           : "SHOW SETTINGS LIKE " + query::QuoteText(argument));
    case DotCommandKind::kSchema:
      if (!argument.empty()) return RunStatement("DESCRIBE " + query::QuoteName(argument));
      failure = InputError({}, "which collection?", ".schema COLLECTION");
      break;
    case DotCommandKind::kRead:
      if (!argument.empty()) return ReadScript(argument);
      failure = InputError({}, "which file?", ".read FILE");
      break;
    case DotCommandKind::kHelp:
      failure = ShowHelp(command);
      break;
    case DotCommandKind::kMaxRows:
      failure = SetMaxRows(command);
      break;
    case DotCommandKind::kMode:
      failure = SetMode(command);
      break;
    case DotCommandKind::kNullValue:
      format_.null_text = argument;
      break;
    case DotCommandKind::kOutput:
      failure = SetOutput(command);
      break;
    case DotCommandKind::kTimer:
      failure = SetTimer(command);
      break;
  }
  out_ << std::flush;
  return failure ? Report(*failure, {}) : ScriptOutcome::kOk;
}

Failure Shell::ShowHelp(const DotCommand& command) {
  if (command.arguments.empty()) {
    out_ << HelpOverview(options_.columns());
    return {};
  }
  std::string topic = command.arguments[0];
  if (command.arguments.size() > 1) topic += " " + command.arguments[1];
  INTARSIA_ASSIGN_OR_FAIL(const std::string text, HelpTopic(topic, options_.columns()));
  out_ << text;
  return {};
}

Failure Shell::SetMode(const DotCommand& command) {
  if (command.arguments.empty()) {
    out_ << OutputModeName(format_.mode) << "\n";
    return {};
  }
  const std::optional<OutputMode> mode = OutputModeNamed(command.arguments.front());
  if (!mode) {
    return InputError({}, "unknown mode: " + command.arguments.front(),
                      "It may be " + OutputModeNames() + ".");
  }
  format_.mode = *mode;
  return {};
}

Failure Shell::SetMaxRows(const DotCommand& command) {
  if (command.arguments.empty()) {
    out_ << format_.rows_max << "\n";
    return {};
  }
  const std::string& text = command.arguments.front();
  int64_t rows_max = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), rows_max);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || rows_max < 0) {
    return InputError({}, "not a number of rows: " + text, ".maxrows 40, or .maxrows 0 for all.");
  }
  format_.rows_max = rows_max;
  return {};
}

Failure Shell::SetOutput(const DotCommand& command) {
  has_open_end_ = false;
  if (command.arguments.empty()) return ReplaceOutput(nullptr);
  auto file = std::make_unique<std::ofstream>(command.arguments.front(),
                                              std::ios::binary | std::ios::trunc);
  if (!file->is_open()) {
    return InputError({}, "file cannot be written: " + command.arguments.front());
  }
  return ReplaceOutput(std::move(file));
}

Failure Shell::ReplaceOutput(std::unique_ptr<std::ofstream> file) {
  const std::unique_ptr<std::ofstream> old = std::exchange(output_, std::move(file));
  if (old == nullptr) return {};
  // Every result was flushed, but some file systems tell of a full disk only here.
  old->close();
  if (old->good()) return {};
  return InputError({}, "the file of the last .output could not be closed, and may lack results");
}

Failure Shell::SetTimer(const DotCommand& command) {
  if (command.arguments.empty()) {
    out_ << (shows_time_ ? "on" : "off") << "\n";
    return {};
  }
  const std::string& text = command.arguments.front();
  if (text != "on" && text != "off") {
    return InputError({}, "neither on nor off: " + text, ".timer on");
  }
  shows_time_ = text == "on";
  return {};
}

ScriptOutcome Shell::ReadScript(const std::string& path) {
  if (read_depth_ == kReadDepthMax) {
    return Report(InputError({}, "files read one another too deep: " + path), {});
  }
  const Result<std::string> script = ReadScriptFile(path);
  if (!script.ok()) return Report(InputError({}, std::string(script.status().message())), {});
  ++read_depth_;
  const ScriptOutcome outcome = RunScript(*script, path);
  --read_depth_;
  return outcome;
}

}  // namespace intarsia::client
