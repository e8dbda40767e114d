// Runs the built programs as a user would, on any number of ranks, and says what came of it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace millrace::test {

struct Outcome {
  int exit_code = -1;      // of mpirun or the program
  bool timed_out = false;  // killed
  std::string output;      // stdout
  std::string errors;      // stderr
  double seconds = 0;

  // The lines of stderr that begin with "millrace: " or another program's name: what it says when
  // it fails.
  std::vector<std::string> complaints() const;
};

struct Launch {
  int ranks = 0;  // 0: without mpirun
  std::string program = "millrace";
  std::vector<std::string> arguments = {};
  std::vector<std::string> environment = {};  // "NAME=value", beside this process's own
  double timeout_seconds = 60;
  // Called every few milliseconds while the program runs, with its process id (mpirun's, under
  // mpirun) and the seconds since it was started.
  std::function<void(int process, double seconds)> meanwhile = {};
  // What the last rank alone runs, and in which folder: a host that is not as the others.
  std::string last_program = {};
  std::string last_folder = {};
};

Outcome run(const Launch& launch);

// The processes named `name` that `ancestor` started, itself or through others.
std::vector<int> descendants(int ancestor, const std::string& name);

// A folder that disappears with its object.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ / name; }
  // Writes a file and answers its path.
  std::string write(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);

// test/data/models/NAME
std::filesystem::path fixture(const std::string& name);

}  // namespace millrace::test
