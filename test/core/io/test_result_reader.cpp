#include "core/io/result_reader.hpp"

#include <gmock/gmock.h>
#include <hdf5.h>

#include <fstream>

#include "core/io/hdf5.hpp"
#include "core/io/results.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Report sample_report() {
  Report report;
  report.config = {{"model", "SmolLM2 \"x\""}, {"tensor-parallel-size", "2"}, {"seed", ""}};
  report.config.emplace_back("stop", std::string(100'000, 's'));
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    report.ranks.push_back(
        {rank, "host" + std::to_string(rank / 2), "cpu", 0, rank / 2, rank % 2, 0, 15, ""});
    report.kv_cache.ranks.push_back({rank, 0, 1000, 200, 5000 + rank, 10, 500});
  }
  report.links.push_back({"tensor", 0, 1, "SHM", 0.5, 12.5});
  report.gpu_sums = "words up to 8 KiB, then NCCL";
  report.kv_cache.block_size = 16;
  report.kv_cache.max_model_len = 2048;
  report.kv_cache.preemptions = 3;
  report.kv_cache.peak_running = 17;
  for (int i = 0; i < 50; ++i) {
    TimelineRow row;
    row.seconds = i * 0.5;
    row.running = i;
    row.output_tokens = 100 * i;
    report.timeline.push_back(row);
  }
  report.summary = {1.5, 20.25, 1000, 2000, 50, 10};
  return report;
}

class ResultFiles : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, int results, bool prompt_token_ids = true) {
    auto writer = open_results({folder_ / name, true, prompt_token_ids});
    for (int i = 0; i < results; ++i) {
      writer->add(i, 0, sample_result(i));
    }
    writer->finish(sample_report());
    return folder_ / name;
  }

  TemporaryFolder folder_;
};

TEST_F(ResultFiles, GiveBackEveryResult) {
  // More rows and bytes than one chunk of any column.
  const ResultReader reader(write("a.h5", 40'000));
  std::int64_t next = 0;
  reader.for_each_result([&](std::int64_t index, std::int32_t, const FinishedRequest& result) {
    ASSERT_EQ(index, next++);
    ASSERT_TRUE(same(result, sample_result(index))) << index;
  });
  EXPECT_EQ(next, 40'000);
}

TEST_F(ResultFiles, GiveBackTheReport) {
  for (const char* name : {"a.h5", "a.jsonl"}) {
    const ResultReader reader(report_path(write(name, 3)));
    const Report report = reader.report();
    const Report expected = sample_report();
    EXPECT_EQ(report.config, expected.config);
    ASSERT_EQ(report.ranks.size(), 4U);
    EXPECT_EQ(report.ranks[3].host, "host1");
    EXPECT_EQ(report.ranks[3].tensor, 1);
    ASSERT_EQ(report.links.size(), 1U);
    EXPECT_EQ(report.links[0].transport, "SHM");
    EXPECT_EQ(report.gpu_sums, "words up to 8 KiB, then NCCL");
    EXPECT_DOUBLE_EQ(report.links[0].latency_microseconds, 0.5);
    EXPECT_DOUBLE_EQ(report.links[0].gigabytes_per_second, 12.5);
    ASSERT_EQ(report.kv_cache.ranks.size(), 4U);
    EXPECT_EQ(report.kv_cache.ranks[2].cache_bytes, 5002);
    EXPECT_EQ(report.kv_cache.block_size, 16);
    EXPECT_EQ(report.kv_cache.max_model_len, 2048);
    EXPECT_EQ(report.kv_cache.preemptions, 3);
    EXPECT_EQ(report.kv_cache.peak_running, 17);
    EXPECT_EQ(report.timeline, expected.timeline);
    EXPECT_EQ(report.summary.run_seconds, 20.25);
    EXPECT_EQ(report.summary.errors, 10);
  }
}

TEST_F(ResultFiles, AFlagThatRepeatsIsOneSettingOfSeveralLines) {
  auto writer = open_results({folder_ / "a.h5", false, false});
  Report report;
  report.config = {{"stop", "END"}, {"seed", "1"}, {"stop", "\n\n"}};
  writer->finish(report);
  EXPECT_THAT(ResultReader(folder_ / "a.h5").report().config,
              testing::ElementsAre(std::pair("stop", "END\n\n\n"), std::pair("seed", "1")));
}

TEST_F(ResultFiles, AnEmptyJobHasAnEmptyFile) {
  const ResultReader reader(write("a.h5", 0));
  reader.for_each_result([](std::int64_t, std::int32_t, const FinishedRequest&) { FAIL(); });
  EXPECT_EQ(read_file(write("a.jsonl", 0)), "");
}

TEST_F(ResultFiles, ConvertToTheSameBytesAsAJsonLinesRun) {
  for (const bool prompt_token_ids : {true, false}) {
    const auto direct = write("direct.jsonl", 500, prompt_token_ids);
    const auto converted = folder_ / "converted.jsonl";
    EXPECT_EQ(convert_to_json_lines({write("a.h5", 500, prompt_token_ids), converted, true}), 500);
    EXPECT_EQ(read_file(converted), read_file(direct));
  }
}

TEST_F(ResultFiles, AReportHasNoTextsToConvert) {
  write("a.jsonl", 3);
  EXPECT_THAT(
      [&] {
        convert_to_json_lines({report_path(folder_ / "a.jsonl"), folder_ / "b.jsonl", false});
      },
      ThrowsMessage<UserError>(HasSubstr("the texts are in that file")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "b.jsonl"));
}

TEST_F(ResultFiles, OfOthersAreRefused) {
  write_file(folder_ / "text.h5", "no HDF5 at all");
  EXPECT_THAT([&] { ResultReader reader(folder_ / "text.h5"); },
              ThrowsMessage<UserError>(HasSubstr("text.h5")));
  {
    hdf5::Object file = hdf5::create_file(folder_ / "other.h5");
    hdf5::close_file(file);
  }
  EXPECT_THAT([&] { ResultReader reader(folder_ / "other.h5"); },
              ThrowsMessage<UserError>(HasSubstr("is not a result of millrace")));
  {
    hdf5::Object file = hdf5::create_file(folder_ / "newer.h5");
    hdf5::write_attribute(file, "format", std::string(result_format_name));
    hdf5::write_attribute(file, "schema_version", std::int64_t{99});
    hdf5::close_file(file);
  }
  EXPECT_THAT([&] { ResultReader reader(folder_ / "newer.h5"); },
              ThrowsMessage<UserError>(HasSubstr("schema version 99")));
}

TEST_F(ResultFiles, TruncatedOnesAreAnErrorAndNotACrash) {
  const auto path = write("a.h5", 200);
  const std::string whole = read_file(path);
  for (std::size_t length = 0; length < whole.size(); length += whole.size() / 40) {
    write_file(path, whole.substr(0, length));
    EXPECT_THROW(ResultReader reader(path), UserError) << length;
  }
}

// What an HDF5 file can say beside data of its own.
TEST_F(ResultFiles, ThatNameOtherFilesAreRefused) {
  const auto secrets = (folder_ / "secrets").string();
  std::ofstream(secrets) << std::string(800, 's');
  const auto read = [](const std::filesystem::path& path) {
    return [path] {
      ResultReader(path).for_each_result([](std::int64_t, int, const FinishedRequest&) {});
    };
  };
  // A column whose bytes lie in another file.
  const auto external = write("external.h5", 100);
  hid_t file = H5Fopen(external.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(H5Ldelete(file, "requests/offset", H5P_DEFAULT), 0);
  const hsize_t rows = 100;
  const hid_t space = H5Screate_simple(1, &rows, nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  ASSERT_GE(H5Pset_external(properties, secrets.c_str(), 0, 800), 0);
  H5Dclose(H5Dcreate2(file, "requests/offset", H5T_STD_I64LE, space, H5P_DEFAULT, properties,
                      H5P_DEFAULT));
  H5Pclose(properties);
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_THAT(read(external), ThrowsMessage<UserError>(HasSubstr("offset lies in other files")));
  // A group that is a link into another file.
  const auto other = write("other.h5", 100);
  const auto linked = write("linked.h5", 100);
  file = H5Fopen(linked.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(H5Ldelete(file, "requests", H5P_DEFAULT), 0);
  ASSERT_GE(
      H5Lcreate_external(other.c_str(), "/requests", file, "requests", H5P_DEFAULT, H5P_DEFAULT),
      0);
  H5Fclose(file);
  EXPECT_THAT(read(linked), ThrowsMessage<UserError>(HasSubstr("requests is a link")));
}

}  // namespace
}  // namespace millrace
