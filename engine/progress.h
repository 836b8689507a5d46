// ProgressSink: how long work tells whoever waits for it how far it is.
//
// Thread safety: Report is called from one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia::engine {

struct Progress {
  std::string_view stage;  // what is being done, for example "embed"
  std::string_view unit;   // of done and total, for example "documents"
  int64_t done = 0;
  int64_t total = 0;       // 0 if it is not known
  int64_t bytes_done = 0;  // of input; 0 if that says nothing
  int64_t bytes_total = 0;
  int64_t errors = 0;
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  // Called often; the sink decides how much of it to show.
  virtual void Report(const Progress& progress) = 0;
};

}  // namespace intarsia::engine
