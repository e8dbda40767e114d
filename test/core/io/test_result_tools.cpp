// Result files are read by the tools that people have: h5dump, h5ls, h5py. Skipped where there are
// none.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

#include "core/io/report.hpp"
#include "core/io/results.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;

// A command's output and exit status.
std::pair<std::string, int> run(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 4096> part{};
  while (const std::size_t count = std::fread(part.data(), 1, part.size(), pipe)) {
    output.append(part.data(), count);
  }
  const int status = ::pclose(pipe);
  return {output, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

bool works(const std::string& command) { return run(command).second == 0; }

class ResultTools : public testing::Test {
 protected:
  ResultTools() {
    Report report;
    report.config = {{"model", "a model"}};
    report.kv_cache.block_size = 16;
    for (std::int32_t rank = 0; rank < 2; ++rank) {
      report.ranks.push_back({rank, "host" + std::to_string(rank), "cpu", 0, 0, rank, 0, 4, ""});
      report.kv_cache.ranks.push_back({rank, 0, 1, 1, 1, 1, 500});
    }
    for (const auto& output : {hdf5_, json_lines_}) {
      auto writer = open_results({output, false, true});
      for (int i = 0; i < 120; ++i) {
        writer->add(i, 0, sample_result(i));
      }
      writer->finish(report);
    }
  }

  TemporaryFolder folder_;
  std::filesystem::path hdf5_ = folder_ / "a.h5";
  std::filesystem::path json_lines_ = folder_ / "a.jsonl";
};

TEST_F(ResultTools, H5dumpShowsFinishReasonsByName) {
  if (!works("h5dump --version")) {
    GTEST_SKIP() << "no h5dump";
  }
  const auto [output, status] = run("h5dump -d /outputs/finish_reason -s 0 -c 3 " + hdf5_.string());
  EXPECT_EQ(status, 0) << output;
  EXPECT_THAT(output, HasSubstr("(0): stop, length, stop"));
  EXPECT_TRUE(works("h5dump " + hdf5_.string())) << "the whole file";
  EXPECT_TRUE(works("h5dump " + json_lines_.string() + ".report.h5"));
}

TEST_F(ResultTools, H5lsListsTheDocumentedDatasets) {
  if (!works("h5ls --version")) {
    GTEST_SKIP() << "no h5ls";
  }
  const auto [output, status] = run("h5ls -r " + hdf5_.string());
  EXPECT_EQ(status, 0) << output;
  for (const char* path :
       {"/config ", "/kv_cache/blocks ", "/outputs/text/values ", "/requests/offset ", "/summary ",
        "/timeline/seconds ", "/topology/links/transport "}) {
    EXPECT_THAT(output, HasSubstr(path));
  }
}

TEST_F(ResultTools, H5pyReadsTheSameRowsAsJsonLinesHold) {
  if (!works("python3 -c 'import h5py'")) {
    GTEST_SKIP() << "python3 has no h5py";
  }
  const auto [output, status] = run("python3 " MILLRACE_TEST_SOURCE "/core/io/read_with_h5py.py " +
                                    hdf5_.string() + " " + json_lines_.string());
  EXPECT_EQ(status, 0) << output;
  EXPECT_EQ(output, "120 rows agree\n");
}

}  // namespace
}  // namespace millrace
