#include "core/io/merge.hpp"

#include <gmock/gmock.h>

#include <random>

#include "core/io/external_sort.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class Merge : public testing::Test {
 protected:
  std::unique_ptr<SpoolWriter> writer(std::int32_t replica, std::int32_t run = 0,
                                      const std::string& fingerprint = "f") const {
    SpoolWriterOptions options;
    options.folder = folder_ / "spool";
    options.header = {fingerprint, 0, prompt_bytes, run, replica};
    return std::make_unique<SpoolWriter>(options);
  }

  // Lines begin at offsets 0, 10, 20, ...
  static constexpr std::int64_t line_bytes = 10;
  static constexpr std::int64_t prompt_bytes = 5000;

  static void answer(SpoolWriter& writer, std::int64_t begin, std::int64_t end) {
    for (std::int64_t offset = begin; offset < end; offset += line_bytes) {
      writer.put(sample_result(offset));
    }
  }
  static RangeLines range(std::int64_t begin, std::int64_t end) {
    return {begin, end, (end - begin) / line_bytes};
  }

  std::vector<std::int64_t> merge(std::int64_t memory_bytes = 1 << 20) const {
    std::vector<std::int64_t> offsets;
    const MergeResult result = merge_spool(
        {folder_ / "spool", memory_bytes}, [&](std::int64_t index, FinishedRequest&& request) {
          EXPECT_EQ(index, static_cast<std::int64_t>(offsets.size()));
          EXPECT_TRUE(same(request, sample_result(request.key.offset)));
          offsets.push_back(request.key.offset);
        });
    EXPECT_EQ(result.lines, static_cast<std::int64_t>(offsets.size()));
    return offsets;
  }

  static std::vector<std::int64_t> all_lines() {
    std::vector<std::int64_t> offsets;
    for (std::int64_t offset = 0; offset < prompt_bytes; offset += line_bytes) {
      offsets.push_back(offset);
    }
    return offsets;
  }

  TemporaryFolder folder_;
};

TEST_F(Merge, PutsResultsOfManyReplicasIntoTheOrderOfTheFile) {
  std::vector<std::unique_ptr<SpoolWriter>> writers;
  for (int replica = 0; replica < 7; ++replica) {
    writers.push_back(writer(replica));
  }
  std::mt19937 random(3);
  std::vector<std::int64_t> shuffled = all_lines();
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  for (const std::int64_t offset : shuffled) {
    writers[random() % 7]->put(sample_result(offset));
  }
  for (std::int64_t begin = 0; begin < prompt_bytes; begin += 1000) {
    writers[random() % 7]->put(range(begin, begin + 1000));
  }
  for (auto& writer : writers) {
    writer->close();
  }
  EXPECT_EQ(merge(), all_lines());
  EXPECT_EQ(merge(24 * 50), all_lines()) << "in ten runs through a temporary file";
  EXPECT_EQ(merge(1), all_lines()) << "in as many runs as lines";
}

TEST_F(Merge, TakesWhatSeveralRunsFinished) {
  // The first run died inside its second range; the next one cut the file differently, answered
  // what was left, and counted again.
  auto first = writer(0, 0);
  answer(*first, 0, 1000);
  first->put(range(0, 1000));
  answer(*first, 1000, 1500);
  first->put(range(1000, 3000));
  first->close();
  auto second = writer(0, 1);
  answer(*second, 1500, prompt_bytes);
  second->put(range(0, 700));
  second->put(range(700, 2500));
  second->put(range(2500, 5000));
  second->close();
  EXPECT_EQ(merge(), all_lines());
}

TEST_F(Merge, AMissingLineIsNamed) {
  auto spool = writer(0);
  answer(*spool, 0, 2000);
  answer(*spool, 2010, prompt_bytes);
  spool->put(range(0, 1500));
  spool->put(range(1500, 5000));
  spool->close();
  EXPECT_THAT([&] { merge(); },
              ThrowsMessage<UserError>(testing::AllOf(
                  HasSubstr("1 lines have none"),
                  HasSubstr("bytes 1500 to 5000 of the prompt file: 350 lines, 349 results"))));
}

TEST_F(Merge, ALineAnsweredTwiceIsNamed) {
  auto spool = writer(0);
  answer(*spool, 0, prompt_bytes);
  spool->put(sample_result(40));
  spool->put(range(0, 5000));
  spool->close();
  EXPECT_THAT([&] { merge(); },
              ThrowsMessage<UserError>(HasSubstr("1 results are for a line that has one already")));
}

TEST_F(Merge, AMissingAndADoubleLineDoNotCancelOut) {
  auto spool = writer(0);
  answer(*spool, 10, prompt_bytes);
  spool->put(sample_result(40));
  spool->put(range(0, 5000));
  spool->close();
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr(
                                    "1 lines have none, 1 results are for a line that has one")));
}

TEST_F(Merge, AnUnreadPartOfTheFileIsAnError) {
  auto spool = writer(0);
  answer(*spool, 0, 4000);
  spool->put(range(0, 4000));
  spool->close();
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr("not read to its end")));
}

TEST_F(Merge, FilesOfAnotherJobAreRefused) {
  writer(0)->close();
  writer(1, 0, "another model")->close();
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr("belong to different jobs")));
}

TEST_F(Merge, NoSpoolIsAnError) {
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr("no spool files in")));
}

TEST_F(Merge, ALostResultOfADamagedSpoolIsReportedAsDamage) {
  auto spool = writer(0);
  spool->put(range(0, 5000));
  answer(*spool, 0, prompt_bytes);
  spool->close();
  std::filesystem::resize_file(spool->path(), std::filesystem::file_size(spool->path()) - 3);
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr("bytes torn off")));
}

TEST(Tile, FindsTheWayThroughOverlappingRanges) {
  const std::vector<RangeLines> ranges = {{0, 100, 1}, {0, 80, 2}, {100, 150, 3}, {80, 200, 4}};
  const auto tiles = tile(ranges, 0, 200);
  ASSERT_TRUE(tiles);
  EXPECT_THAT(*tiles, testing::ElementsAre(RangeLines{0, 80, 2}, RangeLines{80, 200, 4}));
  EXPECT_FALSE(tile(ranges, 0, 201));
  EXPECT_TRUE(tile({}, 5, 5));
  EXPECT_FALSE(tile({}, 0, 5));
  EXPECT_FALSE(tile(std::vector<RangeLines>{{0, 0, 0}}, 0, 5)) << "an empty range leads nowhere";
}

TEST(EntrySorter, OfNothingGivesNothing) {
  EntrySorter sorter(".", 1000);
  EXPECT_FALSE(sorter.next());
}

}  // namespace
}  // namespace millrace
