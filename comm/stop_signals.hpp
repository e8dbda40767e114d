// SIGINT, SIGTERM and SIGUSR1 as a wish that can be asked for. The handler only remembers; who acts
// on it is the watchdog. A third SIGINT ends the process there and then, whatever it is doing.
#pragma once

namespace millrace {

// While it lives, these signals no longer end the process. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
};

// Since StopSignals was made: the first signal that came, 0 for none; and how many were SIGINT.
int stop_signal();
int interrupts();

// "SIGTERM".
const char* signal_name(int signal);

}  // namespace millrace
