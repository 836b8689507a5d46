// OpenLineEditor: a LineReader with editing, history and completion on the terminal of this
// process.
//
// Thread safety: owned by one thread.
// Lifetime: the completer must outlive the editor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/shell/line_reader.h"

namespace intarsia::client {

// Words that may stand at the end of `line` instead of its last word, each as a whole.
using Completer = std::function<std::vector<std::string>(std::string_view line)>;

struct LineEditorOptions {
  std::string history_path;  // Empty: history is not kept. A file that cannot be read is no error.
  Completer completer;       // May be null.
  int interrupt_fd = -1;     // Reading a line ends when this is readable; -1: none.
};

// Errors: kUnsupported if the terminal cannot be used.
Result<std::unique_ptr<LineReader>> OpenLineEditor(LineEditorOptions options);

}  // namespace intarsia::client
