#include <algorithm>
#include <utility>

#include <CLI/CLI.hpp>

#include "client/shell/command_line.h"
#include "query/suggest.h"

namespace intarsia::client {
namespace {

constexpr const char* kDescription =
    "intarsia: a database that answers questions from your documents.\n"
    "Without -c, -f or piped input it is interactive; .help shows what it can do.";
constexpr const char* kFooter =
    "Exit codes: 0 ok, 1 a statement failed, 2 bad usage or the database cannot be opened.";

// "--fromat" for an argument that the program does not know.
std::string SuggestOption(const CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    const bool is_known = std::find(names.begin(), names.end(), name) != names.end();
    if (!name.starts_with("--") || is_known) continue;
    const std::string nearest = query::NearestName(name, names);
    if (!nearest.empty()) return query::DidYouMean(nearest) + "\n";
  }
  return {};
}

}  // namespace

std::variant<CommandLine, CommandLineEnd> ParseCommandLine(std::vector<std::string> arguments) {
  CommandLine command_line;
  std::string format;
  bool is_json = false;
  bool is_csv = false;
  bool is_readonly = false;
  bool is_loss_accepted = false;

  CLI::App app(kDescription, "intarsia");
  app.footer(kFooter);
  app.add_option("database", command_line.database,
                 "Directory of the database, made if absent; without it, a temporary one.")
      ->type_name("DIR");
  app.add_option("-c,--command", command_line.commands, "Runs SQL and leaves; may be repeated.")
      ->type_name("SQL")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("-f,--file", command_line.files,
                 "Runs the SQL of a file, - for standard input, and leaves; may be repeated.")
      ->type_name("FILE")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  CLI::Option* const format_option =
      app.add_option("--format", format, "Output: " + OutputModeNames() + ".")->type_name("MODE");
  CLI::Option* const json_option =
      app.add_flag("--json", is_json, "As --format json.")->excludes(format_option);
  app.add_flag("--csv", is_csv, "As --format csv.")->excludes(format_option)->excludes(json_option);
  app.add_flag("--readonly", is_readonly, "Opens the database without writing to it.");
  app.add_flag("--accept-loss", is_loss_accepted,
               "Opens a database that has lost its last commits, with what is left.");
  app.set_version_flag("--version", "intarsia " INTARSIA_VERSION);

  const std::vector<std::string> original = arguments;
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end.
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return CommandLineEnd{kExitOk, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return CommandLineEnd{kExitOk, std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    return CommandLineEnd{kExitUsage, std::string("intarsia: ") + error.what() + "\n" +
                                          SuggestOption(app, original) +
                                          "intarsia --help shows the options.\n"};
  }

  if (!format.empty()) {
    command_line.mode = OutputModeNamed(format);
    if (!command_line.mode) {
      return CommandLineEnd{kExitUsage, "intarsia: unknown format: " + format + "\nIt may be " +
                                            OutputModeNames() + ".\n"};
    }
  }
  if (is_json) command_line.mode = OutputMode::kJson;
  if (is_csv) command_line.mode = OutputMode::kCsv;
  if (is_readonly) command_line.access = AccessMode::kReadOnly;
  if (is_loss_accepted) command_line.lost_commits = LostCommits::kAccept;
  return command_line;
}

}  // namespace intarsia::client
