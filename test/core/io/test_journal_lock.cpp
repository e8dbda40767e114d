#include "core/io/journal_lock.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>

#include "comm/temporary_error.hpp"
#include "core/io/spool.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
namespace fs = std::filesystem;

class Lock : public testing::Test {
 protected:
  void write_spool() const {
    SpoolWriterOptions options;
    options.folder = folder_;
    SpoolWriter(options).close();
  }

  TemporaryFolder parent_;
  const fs::path folder_ = parent_ / "o.jsonl.spool";
};

TEST_F(Lock, IsHeldByOneAndNamesIt) {
  const JournalLock lock = JournalLock::take(folder_, 0);
  const std::string me = fmt::format("process {} on host ", ::getpid());
  EXPECT_THAT(journal_holder(folder_), HasSubstr(me));
  EXPECT_THAT(
      [&] { JournalLock::take(folder_, 0.2); },
      ThrowsMessage<TemporaryError>(AllOf(HasSubstr(folder_), HasSubstr("by another job (" + me))));
  struct stat status {};
  ASSERT_EQ(::stat(folder_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(Lock, IsFreeWhenItsHolderIsGone) {
  { const JournalLock lock = JournalLock::take(folder_, 0); }
  EXPECT_FALSE(fs::exists(folder_));  // nothing was written
  EXPECT_EQ(journal_holder(folder_), "");
  {
    const JournalLock lock = JournalLock::take(folder_, 0);
    write_spool();
  }
  EXPECT_EQ(spool_files(folder_).size(), 1U);
  EXPECT_EQ(journal_holder(folder_), "");
  const JournalLock lock = JournalLock::take(folder_, 0);
}

TEST_F(Lock, GoesWithTheFolderWhenTheJournalIsEmptied) {
  {
    const JournalLock lock = JournalLock::take(folder_, 0);
    write_spool();
    write_file(folder_ / "sort-abcdef", "left by a machine that crashed");
    empty_journal(folder_);
    EXPECT_TRUE(spool_files(folder_).empty());
    EXPECT_THROW(JournalLock::take(folder_, 0), TemporaryError);  // still held
  }
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(Lock, WaitsForTheHolderAndForTheLastWriter) {
  std::optional<JournalLock> first(JournalLock::take(folder_, 0));
  std::optional<SpoolWriter> writer;
  SpoolWriterOptions options;
  options.folder = folder_;
  writer.emplace(options);
  std::thread end([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    first.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    writer.reset();
  });
  const auto begin = std::chrono::steady_clock::now();
  const JournalLock second = JournalLock::take(folder_, 30);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(550));
  end.join();
}

TEST_F(Lock, OfAFolderThatWasTakenAwayIsNotTheLockOfTheNewOne) {
  const JournalLock old = JournalLock::take(folder_, 0);
  fs::remove_all(folder_);  // what a job does that has its result
  const JournalLock lock = JournalLock::take(folder_, 0);
  EXPECT_THROW(JournalLock::take(folder_, 0), TemporaryError);
}

TEST_F(Lock, LeavesTheNewOneAloneWhenTheOldGoes) {
  std::optional<JournalLock> old(JournalLock::take(folder_, 0));
  fs::remove_all(folder_);
  const JournalLock lock = JournalLock::take(folder_, 0);
  old.reset();
  EXPECT_TRUE(fs::exists(folder_));
  EXPECT_THROW(JournalLock::take(folder_, 0), TemporaryError);
}

TEST_F(Lock, InTheWayOfSomethingElseIsTheUsersError) {
  write_file(folder_, "a file");
  EXPECT_THROW(JournalLock::take(folder_, 0), UserError);
  fs::remove(folder_);
  fs::create_symlink(parent_ / "nowhere", folder_);
  EXPECT_THROW(JournalLock::take(folder_, 0), UserError);
  fs::remove(folder_);
  fs::create_directory(folder_);
  fs::create_symlink(parent_ / "victim", folder_ / "lock");
  write_file(parent_ / "victim", "precious");
  EXPECT_THROW(JournalLock::take(folder_, 0), UserError);
  EXPECT_EQ(read_file(parent_ / "victim"), "precious");
}

}  // namespace
}  // namespace millrace
