// Starting the co-process and exchanging lines with it.
#include "core/text/chat_renderer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "kernels/base/error.hpp"

extern char** environ;

namespace millrace::text {
namespace {

[[noreturn]] void fail(const char* what, int error) {
  throw std::system_error(error, std::generic_category(), what);
}

struct SpawnSettings {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;

  // The child gets `socket` as standard input and output and no other file of ours (an MPI process
  // has many). It gets a process group of its own, so that Ctrl-C is our business alone, and
  // default signal handling.
  explicit SpawnSettings(int socket) {
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, socket, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, socket, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t reset;
    sigemptyset(&none);
    sigemptyset(&reset);
    for (const int signal : {SIGALRM, SIGINT, SIGPIPE, SIGTERM}) sigaddset(&reset, signal);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &reset);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
};

}  // namespace

ChatProcess::ChatProcess() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    fail("socketpair", errno);
  }
  socket_ = ends[0];
  // Only our end: the child's is its standard input and must block.
  ::fcntl(socket_, F_SETFL, ::fcntl(socket_, F_GETFL) | O_NONBLOCK);
  const SpawnSettings settings(ends[1]);
  std::string name = "python3";
  std::string option = "-c";
  std::string program = kChatTemplateProgram;
  const std::array<char*, 4> arguments = {name.data(), option.data(), program.data(), nullptr};
  const int error = ::posix_spawnp(&process_, name.c_str(), &settings.files, &settings.attributes,
                                   arguments.data(), environ);
  ::close(ends[1]);
  if (error != 0) {
    ::close(socket_);
    if (error != ENOENT && error != EACCES) fail("posix_spawnp python3", error);
    throw UserError("chat templates need python3 with jinja2, and there is no python3: {}",
                    std::strerror(error));
  }
}

ChatProcess::~ChatProcess() {
  ::kill(process_, SIGKILL);
  ::close(socket_);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChatProcess::wait_for(short events, Deadline deadline) const {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd poll{socket_, events, 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready > 0) return;
    if (ready == 0) throw UserError("the chat template did not end in time and was stopped");
    if (errno != EINTR) fail("poll", errno);
  }
}

std::string ChatProcess::ask(std::string line, Deadline deadline, std::size_t max_bytes) {
  line.push_back('\n');
  const UserError died("the chat template's python3 process ended unexpectedly");
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::send(socket_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      wait_for(POLLOUT, deadline);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      throw died;
    } else if (errno != EINTR) {
      fail("send", errno);
    }
  }
  for (std::size_t searched = 0;;) {
    const std::size_t end = received_.find('\n', searched);
    if (end != std::string::npos) {
      std::string answer = received_.substr(0, end);
      received_.erase(0, end + 1);
      return answer;
    }
    searched = received_.size();
    if (received_.size() > max_bytes) throw UserError("the chat template wrote too much");
    wait_for(POLLIN, deadline);
    std::array<char, 1 << 16> buffer;
    const ssize_t count = ::recv(socket_, buffer.data(), buffer.size(), 0);
    if (count > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (count == 0 || errno == ECONNRESET) {
      throw died;
    } else if (errno != EAGAIN && errno != EINTR) {
      fail("recv", errno);
    }
  }
}

}  // namespace millrace::text
