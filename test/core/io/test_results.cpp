#include "core/io/results.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdlib>

#include "core/io/report.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class Results : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path output() const { return folder_ / (std::string("answers") + GetParam()); }

  TemporaryFolder folder_;
};

void write_results(const std::filesystem::path& output) {
  auto writer = open_results({output, false, false});
  for (int i = 0; i < 20'000; ++i) {
    writer->add(i, 0, sample_result(i));
  }
  writer->finish({});
}

// As write_results, on a disk that takes `bytes` per file. 2 when that fails with a UserError,
// which it prints, and nothing is left behind.
int write_with_little_room(const std::filesystem::path& output, std::uintmax_t bytes) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    write_results(output);
  } catch (const UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return std::filesystem::is_empty(output.parent_path()) ? 2 : 3;
  }
  return 0;
}

INSTANTIATE_TEST_SUITE_P(Formats, Results, testing::Values(".h5", ".jsonl"),
                         [](const auto& format) { return std::string(format.param + 1); });

TEST_P(Results, HaveTheFinalNameOnlyWhenComplete) {
  auto writer = open_results({output(), false, false});
  writer->add(0, 0, sample_result(0));
  EXPECT_FALSE(std::filesystem::exists(output()));
  EXPECT_TRUE(std::filesystem::exists(output().string() + ".partial"));
  writer->finish({});
  EXPECT_TRUE(std::filesystem::exists(output()));
  EXPECT_TRUE(std::filesystem::exists(report_path(output())));
  EXPECT_FALSE(std::filesystem::exists(output().string() + ".partial"));
  struct stat status {};
  ASSERT_EQ(::stat(output().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(RecordedMode, IsTheJobsOrTheOwnersAlone) {
  EXPECT_EQ(recorded_mode({{"model", "m"}, {"output-mode", "640"}}), 0640);
  EXPECT_EQ(recorded_mode({{"output-mode", "0644"}}), 0644);
  for (const char* wrong : {"", "9", "-1", "64x", "1777"}) {
    EXPECT_EQ(recorded_mode({{"output-mode", wrong}}), 0600) << wrong;
  }
  EXPECT_EQ(recorded_mode({}), 0600);
}

TEST_P(Results, LeaveNothingWhenAbandoned) {
  {
    auto writer = open_results({output(), false, false});
    writer->add(0, 0, sample_result(0));
  }
  EXPECT_TRUE(std::filesystem::is_empty(output().parent_path()));
}

TEST_P(Results, AreNotOverwrittenUnasked) {
  write_file(output(), "precious");
  EXPECT_THAT(
      [&] {
        open_results({output(), false, false});
      },
      ThrowsMessage<UserError>(HasSubstr("exists already")));
  EXPECT_EQ(read_file(output()), "precious");
  auto writer = open_results({output(), true, false});
  EXPECT_EQ(read_file(output()), "precious") << "kept until the new one is complete";
  writer->finish({});
  EXPECT_NE(read_file(output()), "precious");
}

TEST_P(Results, AreNotOverwrittenWhenTheyAppearMeanwhile) {
  auto writer = open_results({output(), false, false});
  write_file(output(), "precious");
  EXPECT_THAT([&] { writer->finish({}); }, ThrowsMessage<UserError>(HasSubstr("exists already")));
  EXPECT_EQ(read_file(output()), "precious");
}

TEST_P(Results, AFullDiskIsAnErrorAndLeavesNothing) {
  // RLIMIT_FSIZE makes writes fail as a full disk does, wherever the writer then is. The process
  // must end well, too: HDF5 would try to write once more at exit.
  write_results(output());
  const std::uintmax_t bytes = std::filesystem::file_size(output());
  std::filesystem::remove(output());
  std::filesystem::remove(report_path(output()));
  for (const std::uintmax_t room : {std::uintmax_t{2000}, bytes / 20, bytes / 3, bytes / 2,
                                    bytes - bytes / 8, bytes - 4000, bytes - 1}) {
    EXPECT_EXIT(std::exit(write_with_little_room(output(), room)), testing::ExitedWithCode(2),
                "cannot (write|create) .*answers.*: File too large")
        << room << " of " << bytes;
  }
}

TEST(ResultFormat, IsReadFromTheName) {
  EXPECT_EQ(result_format("a/b.h5"), ResultFormat::hdf5);
  EXPECT_EQ(result_format("b.hdf5"), ResultFormat::hdf5);
  EXPECT_EQ(result_format("b.jsonl"), ResultFormat::json_lines);
  EXPECT_THAT([] { result_format("b.csv"); }, ThrowsMessage<UserError>(HasSubstr("b.csv")));
  EXPECT_EQ(report_path("b.jsonl"), "b.jsonl.report.h5");
  EXPECT_EQ(report_path("b.h5"), "b.h5");
}

TEST(CheckOutput, NamesWhatIsWrongBeforeAnyWork) {
  EXPECT_THAT([] { check_output("/no/such/folder/a.h5", false); },
              ThrowsMessage<UserError>(HasSubstr("there is no folder /no/such/folder")));
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "dir.h5");
  EXPECT_THAT([&] { check_output(folder / "dir.h5", true); },
              ThrowsMessage<UserError>(HasSubstr("it is a folder")));
  write_file(folder / "a.jsonl.report.h5", "");
  EXPECT_THAT([&] { check_output(folder / "a.jsonl", false); },
              ThrowsMessage<UserError>(HasSubstr("a.jsonl.report.h5 exists already")));
  check_output(folder / "a.jsonl", true);
}

}  // namespace
}  // namespace millrace
