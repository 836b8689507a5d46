// InterruptHandler: what Ctrl-C does while the shell runs.
//
// While a statement runs, the first Ctrl-C cancels it and a second one within two seconds ends the
// program at once, in case the statement does not look at its token. At the prompt it only
// interrupts the reading of the line. The signal handler touches nothing but atomics.
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

  // From here to EndStatement an interrupt cancels `token`, which must live as long.
  void BeginStatement(CancelToken* token);
  void EndStatement();

  // Whether there was an interrupt since the last call.
  bool TakeInterrupt();
};

}  // namespace intarsia::client
