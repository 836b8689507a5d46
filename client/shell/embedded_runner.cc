#include "client/shell/embedded_runner.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "engine/engine.h"
#include "engine/session.h"

namespace intarsia::client {
namespace {

// A directory that is removed with all that is in it.
class TemporaryDirectory {
 public:
  static Result<std::unique_ptr<TemporaryDirectory>> Create() {
    std::error_code error;
    const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
    if (error) return Status(StatusCode::kIo, "no temporary directory: " + error.message());
    std::string path = (parent / "intarsia-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
      return Status(StatusCode::kIo, "temporary directory cannot be made: " + path + ": " +
                                         std::generic_category().message(errno));
    }
    return std::unique_ptr<TemporaryDirectory>(new TemporaryDirectory(std::move(path)));
  }

  ~TemporaryDirectory() {
    std::error_code error;  // What cannot be removed is left to whoever cleans that place.
    std::filesystem::remove_all(path_, error);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}

  const std::string path_;
};

// Hands the text of an answer from the engine's sink to the shell's.
class TextForwarder final : public engine::TokenSink {
 public:
  explicit TextForwarder(TextSink* target) : target_(target) {}
  void Write(std::string_view text) override { target_->Write(text); }

 private:
  TextSink* const target_;
};

class EmbeddedRunner final : public StatementRunner {
 public:
  EmbeddedRunner(std::unique_ptr<TemporaryDirectory> temporary,
                 std::unique_ptr<engine::Engine> engine, std::string banner)
      : temporary_(std::move(temporary)),
        engine_(std::move(engine)),
        session_(engine_.get()),
        banner_(std::move(banner)) {}

  query::Outcome<query::ResultSet> Run(std::string_view sql, const RunContext& context) override {
    TextForwarder forwarder(context.answer_text);
    engine::StatementContext statement;
    statement.cancel = context.cancel;
    statement.progress = context.progress;
    if (context.answer_text != nullptr) statement.tokens = &forwarder;
    return session_.Execute(sql, statement);
  }

  int64_t num_pending() const override { return engine_->kv()->num_queued(); }
  Status Finish(const CancelToken* cancel) override { return engine_->Finish(cancel); }

  std::string Banner() const override { return banner_; }

 private:
  // In this order: the engine closes its files before their directory goes.
  const std::unique_ptr<TemporaryDirectory> temporary_;
  const std::unique_ptr<engine::Engine> engine_;
  engine::Session session_;
  const std::string banner_;
};

}  // namespace

Result<std::unique_ptr<StatementRunner>> OpenRunner(const CommandLine& command_line) {
  std::string path = command_line.database;
  if (path.starts_with("intarsia://")) {
    return Status(StatusCode::kUnsupported,
                  "this program opens directories; it cannot connect to a server: " + path);
  }
  std::string banner = "intarsia " INTARSIA_VERSION "  (";
  std::unique_ptr<TemporaryDirectory> temporary;
  if (path.empty()) {
    INTARSIA_ASSIGN_OR_RETURN(temporary, TemporaryDirectory::Create());
    path = temporary->path();
    banner += "temporary: everything is gone when you leave";
  } else {
    banner += "embedded, " + path;
  }
  engine::EngineOptions options;
  if (command_line.access == AccessMode::kReadOnly) {
    options.access = storage::AccessMode::kReadOnly;
    banner += ", read-only";
  }
  if (command_line.lost_commits == LostCommits::kAccept) {
    options.damaged_tail = storage::DamagedTail::kDrop;
  }
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                            engine::Engine::Open(path, options));
  banner += ")\nType SQL that ends with ; or .help";
  return std::unique_ptr<StatementRunner>(
      std::make_unique<EmbeddedRunner>(std::move(temporary), std::move(engine), std::move(banner)));
}

}  // namespace intarsia::client
