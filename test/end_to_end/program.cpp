#include "test/end_to_end/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace millrace::test {
namespace {

namespace fs = std::filesystem;

// A pipe's read end, and everything that has come out of it.
struct Stream {
  std::array<int, 2> ends{-1, -1};
  std::string text;
  bool open = true;

  Stream() {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::runtime_error("pipe2");
    }
  }
  ~Stream() { close(ends[0]); }
  void read_some() {
    std::array<char, 4096> buffer;
    const ssize_t count = read(ends[0], buffer.data(), buffer.size());
    if (count <= 0) {
      open = false;
    } else {
      text.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
};

std::vector<std::string> command_of(const Launch& launch) {
  std::vector<std::string> command;
  const std::string program = std::string(MILLRACE_BINARY_DIR) + "/" + launch.program;
  const auto add = [&](std::initializer_list<std::string> words) {
    command.insert(command.end(), words);
  };
  const auto add_program = [&](const std::string& path) {
    command.push_back(path);
    command.insert(command.end(), launch.arguments.begin(), launch.arguments.end());
  };
  const bool is_last_alone = !launch.last_program.empty() || !launch.last_folder.empty();
  if (launch.ranks > 0) {
    add({MILLRACE_MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n",
         std::to_string(launch.ranks - (is_last_alone ? 1 : 0))});
  }
  add_program(program);
  if (is_last_alone) {
    add({":", "-n", "1"});
    if (!launch.last_folder.empty()) {
      add({"-wdir", launch.last_folder});
    }
    add_program(launch.last_program.empty() ? program : launch.last_program);
  }
  return command;
}

// The program would take the tester's own settings for flags, and warn of those that are for tests.
void drop_settings() {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    if (name.starts_with("MILLRACE_") && name != "MILLRACE_CACHE") names.push_back(name);
  }
  for (const std::string& name : names) unsetenv(name.c_str());
}

[[noreturn]] void become(const Launch& launch) {
  setpgid(0, 0);
  drop_settings();
  for (const std::string& entry : launch.environment) {
    const std::size_t equals = entry.find('=');
    setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
  }
  std::vector<std::string> command = command_of(launch);
  std::vector<char*> pointers;
  for (std::string& word : command) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  _exit(127);
}

}  // namespace

std::vector<std::string> Outcome::complaints() const {
  std::vector<std::string> found;
  std::istringstream lines(errors);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("millrace: ") || line.starts_with("millrace-plan: ") ||
        line.starts_with("millrace-report: ")) {
      found.push_back(line);
    }
  }
  return found;
}

Outcome run(const Launch& launch) {
  using Clock = std::chrono::steady_clock;
  Stream output;
  Stream errors;
  const Clock::time_point start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const pid_t child = fork();
  if (child < 0) {
    throw std::runtime_error("fork");
  }
  if (child == 0) {
    dup2(output.ends[1], STDOUT_FILENO);
    dup2(errors.ends[1], STDERR_FILENO);
    become(launch);
  }
  close(output.ends[1]);
  close(errors.ends[1]);

  Outcome outcome;
  while (output.open || errors.open) {
    std::array<pollfd, 2> waits{pollfd{output.open ? output.ends[0] : -1, POLLIN, 0},
                                pollfd{errors.open ? errors.ends[0] : -1, POLLIN, 0}};
    poll(waits.data(), waits.size(), launch.meanwhile ? 2 : 100);
    if (launch.meanwhile) {
      launch.meanwhile(child, seconds());
    }
    if (waits[0].revents != 0) {
      output.read_some();
    }
    if (waits[1].revents != 0) {
      errors.read_some();
    }
    if (seconds() > launch.timeout_seconds && !outcome.timed_out) {
      outcome.timed_out = true;
      kill(-child, SIGKILL);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.output = std::move(output.text);
  outcome.errors = std::move(errors.text);
  outcome.seconds = seconds();
  return outcome;
}

std::vector<int> descendants(int ancestor, const std::string& name) {
  std::map<int, int> parents;
  std::map<int, std::string> names;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    std::string line;
    if (number.find_first_not_of("0123456789") != std::string::npos ||
        !std::getline(std::ifstream(entry.path() / "stat"), line)) {
      continue;
    }
    // "17 (name) S 16 ...": the name may hold spaces and parentheses.
    const std::size_t open = line.find('(');
    const std::size_t close = line.rfind(')');
    if (line[close + 2] == 'Z') {
      continue;  // dead, and not yet asked for by its parent
    }
    const int process = std::stoi(number);
    names[process] = line.substr(open + 1, close - open - 1);
    parents[process] = std::stoi(line.substr(close + 4));
  }
  std::vector<int> found;
  for (const auto& [process, of] : names) {
    int at = process;
    while (at > 1 && at != ancestor && parents.contains(at)) {
      at = parents[at];
    }
    if (at == ancestor && of == name) {
      found.push_back(process);
    }
  }
  return found;
}

Workspace::Workspace() {
  std::string name = fs::temp_directory_path() / "millrace_XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("mkdtemp");
  }
  path_ = name;
}

Workspace::~Workspace() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string Workspace::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
  return path_ / name;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::runtime_error("cannot read " + path.string());
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path fixture(const std::string& name) { return fs::path(MILLRACE_TEST_DATA) / "models" / name; }

}  // namespace millrace::test
