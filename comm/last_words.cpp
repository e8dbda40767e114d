#include "comm/last_words.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "comm/stop_signals.hpp"

namespace millrace {
namespace {

constexpr std::array<int, 5> fatal = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

// What the handler reads: prepared beforehand, of fixed size.
std::array<char, 512> beginning_text;
std::size_t beginning_length = 0;
const Progress* progress_of_rank = nullptr;
std::atomic<bool>* is_spoken = nullptr;
std::array<struct sigaction, fatal.size()> previous;
stack_t previous_stack;
// A stack that has run over leaves no room for a handler.
alignas(16) std::array<std::byte, 64 * 1024> handler_stack;

class Line {
 public:
  void add(std::string_view text) {
    const std::size_t count = std::min(text.size(), text_.size() - length_);
    std::memcpy(text_.data() + length_, text.data(), count);
    length_ += count;
  }
  void add(std::int64_t number) {
    std::array<char, 20> digits;
    std::size_t first = digits.size();
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    add({digits.data() + first, digits.size() - first});
  }
  void write() const {
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text_.data(), length_);
  }

 private:
  std::array<char, 1024> text_;
  std::size_t length_ = 0;
};

void say_and_die(int signal, siginfo_t* cause, void*) {
  const auto which =
      static_cast<std::size_t>(std::find(fatal.begin(), fatal.end(), signal) - fatal.begin());
  sigaction(signal, &previous[which], nullptr);
  if (!is_spoken->exchange(true)) {
    Line line;
    line.add({beginning_text.data(), beginning_length});
    line.add(" died of ");
    line.add(signal_name(signal));
    const std::int64_t step = progress_of_rank->step.load(std::memory_order_relaxed);
    if (step >= 0) {
      line.add(" in step ");
      line.add(step);
    }
    line.add("\n");
    line.write();
  }
  // A fault happens again, and with its address, when the handler returns. A signal that was sent
  // does not; it is held back until then.
  if (cause->si_code <= 0) raise(signal);
}

}  // namespace

LastWords::LastWords(const std::string& beginning, const Progress& progress,
                     std::atomic<bool>& spoken) {
  beginning_length = std::min(beginning.size(), beginning_text.size());
  std::copy_n(beginning.begin(), beginning_length, beginning_text.begin());
  progress_of_rank = &progress;
  is_spoken = &spoken;
  stack_t stack{};
  stack.ss_sp = handler_stack.data();
  stack.ss_size = handler_stack.size();
  sigaltstack(&stack, &previous_stack);  // of this thread
  struct sigaction action {};
  action.sa_sigaction = say_and_die;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < fatal.size(); ++i) sigaction(fatal[i], &action, &previous[i]);
}

LastWords::~LastWords() {
  for (std::size_t i = 0; i < fatal.size(); ++i) sigaction(fatal[i], &previous[i], nullptr);
  sigaltstack(&previous_stack, nullptr);
}

}  // namespace millrace
