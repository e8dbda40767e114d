#include "core/io/journal_lock.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "comm/hosts.hpp"
#include "comm/temporary_error.hpp"
#include "core/io/spool.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* lock_name = "lock";
constexpr auto pause = std::chrono::milliseconds(100);

void make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    throw UserError("cannot create {}: {}", folder.string(), std::strerror(errno));
  }
}

std::string holder_of(const PosixFile& file) {
  std::array<char, 256> text{};
  const std::size_t count = file.read_at(0, std::as_writable_bytes(std::span(text)));
  std::string holder(text.data(), count);
  // The line goes to logs.
  std::ranges::replace_if(
      holder, [](char c) { return c < ' ' || c > '~'; }, ' ');
  return holder.substr(0, holder.find_last_not_of(' ') + 1);
}

std::string mine() {
  std::string text = fmt::format("process {} on host {}", ::getpid(), host_name());
  if (const char* job = std::getenv("SLURM_JOB_ID")) text += fmt::format(", Slurm job {}", job);
  return text;
}

}  // namespace

JournalLock JournalLock::take(const fs::path& folder, double patience_seconds) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const auto waited = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  for (;;) {
    make_folder(folder);
    std::optional<PosixFile> file = PosixFile::open_to_lock(folder / lock_name);
    // Whoever held it may have taken file and folder away since.
    if (file && file->try_lock(false) && file->has_its_name()) {
      JournalLock lock(folder, *std::move(file));
      lock.file_.replace_contents(mine());
      wait_for_writers(folder, patience_seconds - waited());
      return lock;
    }
    if (waited() > patience_seconds) {
      if (!file) throw UserError("cannot create {}: no file can be made in it", folder.string());
      const std::string holder = holder_of(*file);
      throw TemporaryError(
          "{} is being written by another job{}; when that has ended, run again with --resume",
          folder.string(), holder.empty() ? "" : fmt::format(" ({})", holder));
    }
    std::this_thread::sleep_for(pause);
  }
}

JournalLock::~JournalLock() { release(); }

JournalLock::JournalLock(JournalLock&& other) noexcept
    : folder_(std::move(other.folder_)), file_(std::move(other.file_)) {}

JournalLock& JournalLock::operator=(JournalLock&& other) noexcept {
  if (this != &other) {
    release();
    folder_ = std::move(other.folder_);
    file_ = std::move(other.file_);
  }
  return *this;
}

void JournalLock::release() noexcept {
  if (!file_.is_open()) return;
  try {
    const bool is_empty = file_.has_its_name() && spool_files(folder_).empty();
    if (is_empty) ::unlink(file_.path().c_str());
    file_ = PosixFile();
    if (is_empty) ::rmdir(folder_.c_str());  // NFS keeps the file's place until it is closed
  } catch (const std::exception&) {
    // A file system that went away: the lock goes with the process.
  }
}

void empty_journal(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename() == lock_name) continue;
    std::error_code why;
    fs::remove_all(entry.path(), why);
    if (why) throw UserError("cannot remove {}: {}", entry.path().string(), why.message());
  }
}

std::string journal_holder(const fs::path& folder) {
  try {
    PosixFile file = PosixFile::open(folder / lock_name);
    return file.try_lock(true) ? "" : holder_of(file);
  } catch (const UserError&) {
    return "";
  }
}

}  // namespace millrace
