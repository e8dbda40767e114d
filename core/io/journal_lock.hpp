// One job at a time decides about OUTPUT.spool and changes it: from the moment when it looks at
// what is there until its result has its name. The lock is that of the file `lock` in the folder
// (flock), which goes with the process that holds it; in the file stands who that is.
#pragma once

#include <filesystem>

#include "core/io/posix_file.hpp"

namespace millrace {

class JournalLock {
 public:
  // Nothing is held.
  JournalLock() = default;
  // Gives it up. A folder that holds nothing else goes away.
  ~JournalLock();
  JournalLock(JournalLock&& other) noexcept;
  JournalLock& operator=(JournalLock&& other) noexcept;
  JournalLock(const JournalLock&) = delete;
  JournalLock& operator=(const JournalLock&) = delete;

  // Makes the folder (mode 0700) where it is missing, and waits until no other job holds the lock
  // and no process writes to a spool file. Throws TemporaryError, naming who does, after
  // `patience_seconds`, and UserError when the folder cannot be made or written. On a file system
  // without locks it is taken at once.
  static JournalLock take(const std::filesystem::path& folder, double patience_seconds);

 private:
  JournalLock(std::filesystem::path folder, PosixFile file)
      : folder_(std::move(folder)), file_(std::move(file)) {}
  void release() noexcept;

  std::filesystem::path folder_;
  PosixFile file_;  // open while the lock is held
};

// Everything in the folder but the lock, which is this job's. Throws UserError naming what cannot
// be removed.
void empty_journal(const std::filesystem::path& folder);

// What the holder of the folder's lock says of itself, "process 17 on host n1, Slurm job 4"; empty
// when nobody holds it or nobody says.
std::string journal_holder(const std::filesystem::path& folder);

}  // namespace millrace
