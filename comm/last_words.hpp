// A rank that crashes says who it was and where, before it dies: on SIGSEGV, SIGBUS, SIGFPE, SIGILL
// and SIGABRT one line goes to stderr, then whoever handled the signal before has it (Open MPI
// prints a stack trace). Nothing in the handler allocates, locks or formats by the library.
#pragma once

#include <atomic>
#include <string>

#include "comm/progress.hpp"

namespace millrace {

class LastWords {
 public:
  // The line is "<beginning> died of SIGSEGV in step 57". `spoken` becomes true before it is
  // written, and nothing is written when it is already. Both must outlive this. One at a time.
  LastWords(const std::string& beginning, const Progress& progress, std::atomic<bool>& spoken);
  ~LastWords();
  LastWords(const LastWords&) = delete;
  LastWords& operator=(const LastWords&) = delete;
};

}  // namespace millrace
