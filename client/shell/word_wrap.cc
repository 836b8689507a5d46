#include "client/shell/word_wrap.h"

#include "base/utf8.h"

namespace intarsia::client {

std::string WordWrap::Push(std::string_view text) {
  if (columns_ <= 0) return std::string(text);
  std::string shown;
  for (const char c : text) {
    if (c == '\n') {
      EndWord(&shown);
      blanks_.clear();
      shown.push_back('\n');
      column_ = 0;
    } else if (c == ' ' || c == '\t') {
      EndWord(&shown);
      blanks_.push_back(' ');
    } else {
      word_.push_back(c);
    }
  }
  return shown;
}

std::string WordWrap::Finish() {
  std::string shown;
  EndWord(&shown);
  blanks_.clear();
  return shown;
}

void WordWrap::EndWord(std::string* shown) {
  if (word_.empty()) return;
  const int64_t width = DisplayWidth(word_);
  const auto num_blanks = static_cast<int64_t>(blanks_.size());
  if (column_ > 0 && column_ + num_blanks + width > columns_) {
    shown->push_back('\n');
    column_ = 0;
  } else {
    shown->append(blanks_);
    column_ += num_blanks;
  }
  shown->append(word_);
  column_ = column_ + width <= columns_ ? column_ + width : (column_ + width) % columns_;
  blanks_.clear();
  word_.clear();
}

}  // namespace intarsia::client
