// InterruptHandler: what Ctrl-C does while the shell runs.
//
// While a statement runs, the first Ctrl-C cancels it and a second one within two seconds ends the
// program at once, in case the statement does not look at its token. Between two statements it
// cancels the next one, unless it is taken first: at the prompt it only drops the line. Whichever
// thread the signal comes to, the prompt wakes up by a file descriptor, so that none is lost. The
// signal handler touches nothing but atomics and that descriptor.
//
// Thread safety: owned by the thread that runs statements. One at a time in a program.
#pragma once

#include "base/cancel.h"

namespace intarsia::client {

class InterruptHandler {
 public:
  // Takes over SIGINT. REQUIRES: there is no other.
  InterruptHandler();
  // Gives it back.
  ~InterruptHandler();
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

  // From here to EndStatement an interrupt cancels `token`, which must live as long. One that came
  // since the last TakeInterrupt cancels it at once.
  void BeginStatement(CancelToken* token);
  void EndStatement();

  // Whether there was an interrupt since the last call.
  bool TakeInterrupt();

  // Readable from an interrupt between two statements until TakeInterrupt or BeginStatement; -1 if
  // the system has no descriptor left.
  int wake_fd() const;
};

}  // namespace intarsia::client
