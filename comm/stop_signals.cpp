#include "comm/stop_signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "comm/exit_code.hpp"

namespace millrace {
namespace {

constexpr std::array<int, 3> caught = {SIGINT, SIGTERM, SIGUSR1};
constexpr int patience = 2;  // SIGINTs that somebody else may answer

// Signals belong to the process, and so does what is known of them.
std::atomic<int> first_signal = 0;
std::atomic<int> interrupt_count = 0;
std::array<struct sigaction, caught.size()> previous;

static_assert(std::atomic<int>::is_always_lock_free, "a handler uses them");

void remember(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT && interrupt_count.fetch_add(1) >= patience) _exit(exit_code::stopped);
}

}  // namespace

StopSignals::StopSignals() {
  first_signal = 0;
  interrupt_count = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;  // a read that takes long goes on
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < caught.size(); ++i) sigaction(caught[i], &action, &previous[i]);
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < caught.size(); ++i) sigaction(caught[i], &previous[i], nullptr);
}

int stop_signal() { return first_signal; }
int interrupts() { return interrupt_count; }

const char* signal_name(int signal) {
  switch (signal) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL";
    case SIGABRT:
      return "SIGABRT";
    default:
      return "a signal";
  }
}

}  // namespace millrace
