// The co-process that renders one chat template: python3 running chat_template.py, spoken to over a
// socket pair. Posix only; nothing of it passes through a shell.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>

namespace millrace::text {

// The text of chat_template.py, put in at build time.
extern const char* const kChatTemplateProgram;

class ChatProcess {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // UserError: python3 cannot be started.
  ChatProcess();
  ChatProcess(const ChatProcess&) = delete;
  ChatProcess& operator=(const ChatProcess&) = delete;
  ~ChatProcess();  // kills it: between requests it has nothing to lose

  // Sends a line and waits for the line that answers it. After an error the process is of no use.
  // UserError: no answer by `deadline`, an answer of more than `max_bytes`, or the process died.
  std::string ask(std::string line, Deadline deadline, std::size_t max_bytes);

 private:
  void wait_for(short events, Deadline deadline) const;

  int socket_ = -1;
  pid_t process_ = -1;
  std::string received_;  // beyond the last answer
};

}  // namespace millrace::text
