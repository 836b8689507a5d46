#include <chrono>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/ioctl.h>
#include <unistd.h>

#include "base/counted.h"
#include "client/shell/command_line.h"
#include "client/shell/completion.h"
#include "client/shell/embedded_runner.h"
#include "client/shell/interrupt.h"
#include "client/shell/line_editor.h"
#include "client/shell/script_file.h"
#include "client/shell/shell.h"
#include "client/shell/terminal_text.h"

namespace intarsia::client {
namespace {

constexpr int64_t kTableRowsMax = 200;  // On a terminal, where more would scroll away.

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The columns of the terminal behind a file descriptor, 0 if it is none.
int64_t TerminalColumns(int descriptor) {
  winsize size{};
  if (isatty(descriptor) == 0 || ioctl(descriptor, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col > 0 ? size.ws_col : 80;
}

std::string HistoryPath() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): at the start, with one thread.
  const char* const home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? "" : std::string(home) + "/.intarsia_history";
}

void Complain(const std::string& message) {
  std::cerr << "intarsia: " << SafeText(message) << std::endl;
}

// The first column of a SHOW statement, for completion.
void AppendNames(StatementRunner* runner, std::string_view sql, std::vector<std::string>* names) {
  const auto result = runner->Run(sql, {});
  if (!result.ok()) return;
  for (const query::Row& row : result->rows) {
    if (!row.empty() && row[0].kind() == query::ValueKind::kString) {
      names->push_back(row[0].AsString());
    }
  }
}

int RunInteractive(StatementRunner* runner, const InterruptHandler& interrupts, Shell* shell) {
  LineEditorOptions options;
  options.interrupt_fd = interrupts.wake_fd();
  options.history_path = HistoryPath();
  options.completer = [runner](std::string_view line) {
    std::vector<std::string> names;
    AppendNames(runner, "SHOW COLLECTIONS", &names);
    AppendNames(runner, "SHOW MODELS", &names);
    return CompleteLine(line, names);
  };
  auto editor = OpenLineEditor(std::move(options));
  if (!editor.ok()) {
    Complain(std::string(editor.status().message()));
    return kExitUsage;
  }
  std::cout << runner->Banner() << std::endl;
  shell->RunInteractive(editor->get());
  return kExitOk;
}

// The scripts of the command line, or what is piped in. All files are read before anything runs.
int RunScripts(const CommandLine& command_line, Shell* shell) {
  struct Script {
    std::string text;
    std::string name;
  };
  std::vector<Script> scripts;
  for (const std::string& command : command_line.commands) scripts.push_back({command, ""});
  std::vector<std::string> files = command_line.files;
  if (!command_line.has_script()) files.emplace_back("-");
  for (const std::string& path : files) {
    auto script = ReadScriptFile(path);
    if (!script.ok()) {
      Complain(std::string(script.status().message()));
      return kExitUsage;
    }
    scripts.push_back({*std::move(script), path == "-" ? "" : path});
  }
  for (const Script& script : scripts) {
    const ScriptOutcome outcome = shell->RunScript(script.text, script.name);
    if (outcome == ScriptOutcome::kFailed) return kExitFailed;
    if (outcome == ScriptOutcome::kExit) return kExitOk;
  }
  return kExitOk;
}

int Main(const CommandLine& command_line) {
  auto runner = OpenRunner(command_line);
  if (!runner.ok()) {
    Complain(std::string(runner.status().message()));
    return kExitUsage;
  }
  const bool is_on_terminal = isatty(STDOUT_FILENO) != 0;
  const bool is_interactive =
      !command_line.has_script() && is_on_terminal && isatty(STDIN_FILENO) != 0;
  InterruptHandler interrupts;
  ShellOptions options;
  options.format.mode =
      command_line.mode.value_or(is_on_terminal ? OutputMode::kBox : OutputMode::kTsv);
  options.format.rows_max = is_interactive ? kTableRowsMax : 0;
  options.is_interactive = is_interactive;
  options.is_on_terminal = is_on_terminal;
  options.shows_progress = isatty(STDERR_FILENO) != 0;
  options.columns = [] { return TerminalColumns(STDOUT_FILENO); };
  options.error_columns = [] { return TerminalColumns(STDERR_FILENO); };
  options.now_ms = NowMs;
  options.interrupts = &interrupts;
  Shell shell(runner->get(), &std::cout, &std::cerr, std::move(options));
  const int exit_code = is_interactive ? RunInteractive(runner->get(), interrupts, &shell)
                                       : RunScripts(command_line, &shell);

  // What is left is only work ahead of later questions, so that Ctrl-C may drop it. A script that
  // was stopped by it does not go on with that either.
  if (!is_interactive && interrupts.TakeInterrupt()) return exit_code;
  if (const int64_t num_caches = (*runner)->num_pending(); is_interactive && num_caches > 0) {
    std::cerr << "Writing " << Counted(num_caches, "cache")
              << " behind the answers; Ctrl-C leaves without." << std::endl;
  }
  CancelToken cancel;
  interrupts.BeginStatement(&cancel);
  const Status finished = (*runner)->Finish(&cancel);
  interrupts.EndStatement();
  if (!finished.ok() && finished.code() != StatusCode::kCancelled) {
    Complain(std::string(finished.message()));
  }
  return exit_code;
}

}  // namespace
}  // namespace intarsia::client

int main(int argc, char** argv) {
  using namespace intarsia::client;  // NOLINT(google-build-using-namespace): one function.
  // For the line editor, which asks the locale how wide characters are.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): at the start, with one thread.
  if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) std::setlocale(LC_CTYPE, "");
  auto parsed = ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (const auto* end = std::get_if<CommandLineEnd>(&parsed)) {
    (end->exit_code == kExitOk ? std::cout : std::cerr) << end->text << std::flush;
    return end->exit_code;
  }
  return Main(std::get<CommandLine>(parsed));
}
