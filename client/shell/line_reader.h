// LineReader: where an interactive shell gets its lines from: an editor on a terminal, or a test.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia::client {

enum class ReadOutcome : uint8_t {
  kLine,
  kInterrupted,  // Ctrl-C: what was typed is dropped.
  kEnd,          // Ctrl-D on an empty line, or the end of the input.
};

struct ReadLine {
  ReadOutcome outcome = ReadOutcome::kEnd;
  std::string line;  // Without its newline; of kLine only.
};

class LineReader {
 public:
  virtual ~LineReader() = default;

  // Shows the prompt and waits for a line.
  virtual ReadLine Read(std::string_view prompt) = 0;

  // Remembers a line for later sessions too.
  virtual void AddHistory(std::string_view line) = 0;
};

}  // namespace intarsia::client
