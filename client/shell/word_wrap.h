// WordWrap: text that comes in pieces, broken into lines at blanks.
//
// A word is held back until the blank behind it comes, since only then is it known to fit. A word
// that is wider than a line is left to the terminal. Indents and empty lines stay as they are.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia::client {

class WordWrap {
 public:
  // 0 columns: nothing is broken or held back.
  explicit WordWrap(int64_t columns) : columns_(columns) {}

  // What may be shown now. `text` is safe for a terminal, as by SafeText.
  std::string Push(std::string_view text);
  // What was held back.
  std::string Finish();

 private:
  void EndWord(std::string* shown);

  const int64_t columns_;
  std::string blanks_;  // before the word, not yet shown
  std::string word_;
  int64_t column_ = 0;  // behind what was shown of the line
};

}  // namespace intarsia::client
