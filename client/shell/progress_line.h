// ProgressLine: one line of a terminal that says how far a statement is.
//
//   embed  [##########--------------]  1,234/2,960 documents  4.1 MB  1.2 MB/s  0 errors  ETA 3.4 s
//
// It appears only once the statement has run for a while, is drawn at most ten times a second, and
// is gone before anything else is printed.
//
// Thread safety: Report and Clear are called from one thread at a time.
// Lifetime: the stream must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>

#include "engine/progress.h"

namespace intarsia::client {

struct ProgressLineOptions {
  int64_t columns = 80;             // Of the terminal; below 20 nothing is shown.
  int64_t delay_ms = 2000;          // From construction to the first line.
  int64_t interval_ms = 100;        // Between two lines.
  std::function<int64_t()> now_ms;  // A clock that never goes back.
};

class ProgressLine final : public engine::ProgressSink {
 public:
  ProgressLine(std::ostream* out, ProgressLineOptions options);

  void Report(const engine::Progress& progress) override;

  // Wipes the line, if there is one.
  void Clear();

 private:
  std::string Format(const engine::Progress& progress, int64_t now_ms) const;

  std::ostream& out_;
  const ProgressLineOptions options_;
  const int64_t begin_ms_;
  int64_t shown_ms_ = -1;  // When the line was last drawn; -1: never.
  bool is_visible_ = false;
  std::string stage_;
  int64_t stage_begin_ms_ = 0;
  int64_t stage_begin_done_ = 0;
  int64_t stage_begin_bytes_ = 0;
};

}  // namespace intarsia::client
