// StatementRunner: where the shell hands its statements: an embedded engine, or a fake in tests.
//
// Thread safety: owned by one thread; only the CancelToken is touched by others meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "base/status.h"
#include "engine/progress.h"
#include "query/diagnostic.h"
#include "query/value.h"

namespace intarsia::client {

// Receives the text of an answer while it is generated, piece by piece.
class TextSink {
 public:
  virtual ~TextSink() = default;
  // A piece of well-formed UTF-8.
  virtual void Write(std::string_view text) = 0;
};

// Pointers may be null, and must live as long as the call.
struct RunContext {
  const CancelToken* cancel = nullptr;
  engine::ProgressSink* progress = nullptr;
  TextSink* answer_text = nullptr;
};

class StatementRunner {
 public:
  virtual ~StatementRunner() = default;

  // Runs one statement without its terminator. Places in a Diagnostic count from the start of
  // `sql`. Blocks until it is done; kCancelled soon after the token was cancelled.
  virtual query::Outcome<query::ResultSet> Run(std::string_view sql, const RunContext& context) = 0;

  // The caches that Finish() would write.
  virtual int64_t num_pending() const = 0;
  // Completes what goes on behind answers; called once, before leaving. Blocks.
  // Errors: kCancelled, which loses nothing but that work.
  virtual Status Finish(const CancelToken* cancel) = 0;

  // What was opened, for the head of an interactive session: one or two lines without the last
  // newline.
  virtual std::string Banner() const = 0;
};

}  // namespace intarsia::client
