#include "client/shell/line_editor.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cwchar>
#include <utility>

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include "base/utf8.h"

namespace intarsia::client {
namespace {

constexpr int kHistorySize = 2000;

// What the last word of a line begins after.
size_t WordBegin(std::string_view line) {
  const size_t before = line.find_last_of(" \t(,;=");
  return before == std::string_view::npos ? 0 : before + 1;
}

// The beginning that all words share; not empty only if there is one.
std::string CommonBeginning(const std::vector<std::string>& words) {
  std::string common = words.empty() ? "" : words.front();
  for (const std::string& word : words) {
    const auto [end, unused] =
        std::mismatch(common.begin(), common.end(), word.begin(), word.end());
    common.erase(end, common.end());
  }
  return common;
}

class LineEditor final : public LineReader {
 public:
  explicit LineEditor(LineEditorOptions options)
      : options_(std::move(options)),
        editor_(el_init("intarsia", stdin, stdout, stderr)),
        history_(history_init()) {}

  ~LineEditor() override {
    if (history_ != nullptr) {
      HistEvent event{};
      // A history that cannot be written is not worth a message on leaving.
      if (!options_.history_path.empty()) {
        history(history_, &event, H_SAVE, options_.history_path.c_str());
      }
      history_end(history_);
    }
    if (editor_ != nullptr) el_end(editor_);
  }
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  Status SetUp() {
    if (editor_ == nullptr || history_ == nullptr) {
      return Status(StatusCode::kUnsupported, "the terminal cannot be used for editing");
    }
    HistEvent event{};
    history(history_, &event, H_SETSIZE, kHistorySize);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!options_.history_path.empty()) {
      history(history_, &event, H_LOAD, options_.history_path.c_str());
    }
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &ShowPrompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);  // Ctrl-C belongs to InterruptHandler.
    el_set(editor_, EL_GETCFN, &ReadCharacter);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_ADDFN, "intarsia-complete", "Completes a word.", &Complete);
    el_set(editor_, EL_BIND, "^I", "intarsia-complete", nullptr);
    el_source(editor_, nullptr);  // The user's own ~/.editrc; there is none for most.
    return Status::Ok();
  }

  ReadLine Read(std::string_view prompt) override {
    prompt_ = prompt;
    el_resize(editor_);
    int count = 0;
    is_interrupted_ = false;
    const char* const line = el_gets(editor_, &count);
    if (line == nullptr || count <= 0) {
      if (is_interrupted_) el_reset(editor_);
      std::fputc('\n', stdout);
      std::fflush(stdout);
      return {is_interrupted_ ? ReadOutcome::kInterrupted : ReadOutcome::kEnd, {}};
    }
    std::string_view text(line, static_cast<size_t>(count));
    while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
    return {ReadOutcome::kLine, std::string(text)};
  }

  void AddHistory(std::string_view line) override {
    HistEvent event{};
    history(history_, &event, H_ENTER, std::string(line).c_str());
  }

 private:
  static LineEditor* Of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return static_cast<LineEditor*>(data);
  }

  static char* ShowPrompt(EditLine* editor) { return Of(editor)->prompt_.data(); }

  // Waits for a character or an interrupt. The editor's own reading would miss a signal that comes
  // between two characters or to another thread.
  static int ReadCharacter(EditLine* editor, wchar_t* character) {
    LineEditor* const self = Of(editor);
    std::mbstate_t state{};
    while (true) {
      std::array<pollfd, 2> sources = {pollfd{STDIN_FILENO, POLLIN, 0},
                                       pollfd{self->options_.interrupt_fd, POLLIN, 0}};
      if (poll(sources.data(), sources.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return -1;
      }
      if (sources[1].revents != 0) {
        self->is_interrupted_ = true;
        return -1;
      }
      char byte = 0;
      const ssize_t size = read(STDIN_FILENO, &byte, 1);
      if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (size <= 0) return static_cast<int>(size);
      const size_t length = std::mbrtowc(character, &byte, 1, &state);
      if (length <= 1) return 1;
      // A character of several bytes goes on; a byte that is none is dropped.
      if (length == static_cast<size_t>(-1)) state = {};
    }
  }

  static unsigned char Complete(EditLine* editor, int) { return Of(editor)->CompleteWord(); }

  // Completes as far as the candidates agree, and lists them where they do not.
  unsigned char CompleteWord() {
    if (!options_.completer) return CC_ERROR;
    const LineInfo* const info = el_line(editor_);
    const std::string_view line(info->buffer, static_cast<size_t>(info->cursor - info->buffer));
    const std::vector<std::string> words = options_.completer(line);
    if (words.empty()) return CC_REFRESH_BEEP;
    const size_t begin = WordBegin(line);
    const std::string_view typed = line.substr(begin);
    std::string replacement = CommonBeginning(words);
    if (words.size() == 1) replacement += " ";
    if (replacement.size() > typed.size()) {
      el_deletestr(editor_, static_cast<int>(CountCodePoints(typed)));
      return el_insertstr(editor_, replacement.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
    }
    std::fputc('\n', stdout);
    for (const std::string& word : words) std::printf("%s  ", word.c_str());
    std::fputc('\n', stdout);
    return CC_REDISPLAY;
  }

  const LineEditorOptions options_;
  EditLine* const editor_;
  History* const history_;
  std::string prompt_;
  bool is_interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<LineReader>> OpenLineEditor(LineEditorOptions options) {
  auto editor = std::make_unique<LineEditor>(std::move(options));
  INTARSIA_RETURN_IF_ERROR(editor->SetUp());
  return std::unique_ptr<LineReader>(std::move(editor));
}

}  // namespace intarsia::client
