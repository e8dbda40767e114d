#include "core/io/result_reader.hpp"

#include <gmock/gmock.h>
#include <hdf5.h>

#include <cmath>
#include <fstream>

#include "core/io/hdf5.hpp"
#include "core/io/report_html.hpp"
#include "core/io/results.hpp"
#include "core/io/statistics.hpp"
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

// Overwrites every row of a column.
template <typename T>
void overwrite(const std::filesystem::path& path, const char* column, hid_t type, T value) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, column, H5P_DEFAULT);
  const hid_t space = H5Dget_space(dataset);
  const std::vector<T> rows(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)), value);
  EXPECT_FALSE(rows.empty());
  EXPECT_GE(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()), 0);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file);
}

TEST_F(ResultFiles, ImpossibleValuesAreNamedBeforeAnybodyComputesWithThem) {
  const auto error_of = [&](const char* column, auto type, auto value) -> std::string {
    const auto path = write("a.h5", 20);
    overwrite(path, column, type, value);
    try {
      const ResultReader reader(path);
      report_html(reader.report(), gather_statistics(reader, "a.h5"));
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  const auto real = H5T_NATIVE_DOUBLE;
  const auto whole = H5T_NATIVE_INT32;
  EXPECT_EQ(error_of("requests/finished_seconds", real, HUGE_VAL),
            (folder_ / "a.h5").string() + " is damaged: requests/finished_seconds holds inf");
  EXPECT_THAT(error_of("requests/arrived_seconds", real, std::nan("")), HasSubstr("holds nan"));
  EXPECT_THAT(error_of("timeline/seconds", real, -1.0), HasSubstr("timeline/seconds holds -1"));
  EXPECT_THAT(error_of("kv_cache/replica", whole, -3), HasSubstr("kv_cache/replica holds -3"));
  EXPECT_THAT(error_of("kv_cache/replica", whole, 4), HasSubstr("kv_cache/replica holds 4"));
  EXPECT_THAT(error_of("topology/ranks/data", whole, INT32_MAX), HasSubstr("ranks/data"));
  EXPECT_THAT(error_of("outputs/tokens", whole, INT32_MAX), HasSubstr("outputs/tokens"));
  EXPECT_THAT(error_of("requests/prompt_tokens", whole, -1), HasSubstr("prompt_tokens holds -1"));
  EXPECT_EQ(error_of("timeline/running", whole, 5), "no error");
}

// Reading more values than there is room for would write over whatever lies behind it.
TEST_F(ResultFiles, AnAttributeOfManyValuesIsRefused) {
  const auto with_many = [&](const char* group, const char* name, hid_t type) {
    const auto path = write("a.h5", 20);
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t object = H5Gopen2(file, group, H5P_DEFAULT);
    EXPECT_GE(H5Adelete(object, name), 0);
    const hsize_t count = 5000;
    const hid_t space = H5Screate_simple(1, &count, nullptr);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const std::vector<char> zeros(count * H5Tget_size(type));
    EXPECT_GE(H5Awrite(attribute, type, zeros.data()), 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Gclose(object);
    H5Fclose(file);
    return [path] { ResultReader(path).report(); };
  };
  const hid_t text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, H5T_VARIABLE);
  const auto refused = ThrowsMessage<UserError>(HasSubstr("is no single value"));
  EXPECT_THAT(with_many("/", "schema_version", H5T_NATIVE_INT64), refused);
  EXPECT_THAT(with_many("/", "format", text), refused);
  EXPECT_THAT(with_many("/kv_cache", "block_size", H5T_NATIVE_INT64), refused);
  EXPECT_THAT(with_many("/summary", "load_seconds", H5T_NATIVE_DOUBLE), refused);
  EXPECT_THAT(with_many("/config", "model", text), refused);
  H5Tclose(text);
}

TEST_F(ResultFiles, ATableIsNoColumn) {
  const auto path = write("a.h5", 20);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(H5Ldelete(file, "requests/offset", H5P_DEFAULT), 0);
  const hsize_t shape[] = {4, 5};
  const hid_t space = H5Screate_simple(2, shape, nullptr);
  H5Dclose(H5Dcreate2(file, "requests/offset", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT,
                      H5P_DEFAULT));
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_THAT([&] { ResultReader(path).for_each_request([](const RequestRow&) {}); },
              ThrowsMessage<UserError>(HasSubstr("offset is no column")));
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
