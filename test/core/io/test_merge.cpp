#include "core/io/merge.hpp"

#include <gmock/gmock.h>

#include <random>

#include "core/io/external_sort.hpp"
#include "core/io/spool_index.hpp"
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
    options.header.fingerprint.parts = {{"model", fingerprint}};
    options.header.prompt_end = prompt_bytes;
    options.header.run = run;
    options.header.replica = replica;
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

  std::vector<std::int64_t> merge(std::int64_t memory_bytes = 1 << 20) const {
    std::vector<std::int64_t> offsets;
    const MergeResult result =
        merge_spool({folder_ / "spool", memory_bytes},
                    [&](std::int64_t index, std::int32_t, FinishedRequest&& request) {
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
  for (auto& writer : writers) {
    writer->close();
  }
  EXPECT_EQ(merge(), all_lines());
  EXPECT_EQ(merge(32 * 50), all_lines()) << "in ten runs through a temporary file";
  EXPECT_EQ(merge(1), all_lines()) << "in as many runs as lines";
}

TEST_F(Merge, TakesWhatSeveralRunsFinished) {
  auto first = writer(0, 0);
  answer(*first, 0, 1000);
  answer(*first, 1100, 1500);
  first->close();
  SpoolIndex left(folder_ / "spool", 1000);
  EXPECT_THAT(unanswered_ranges(left, 0, prompt_bytes),
              testing::ElementsAre(ByteRange{1000, 1100}, ByteRange{1500, prompt_bytes}));
  auto second = writer(0, 1);
  answer(*second, 1500, prompt_bytes);
  answer(*second, 1000, 1100);
  second->close();
  EXPECT_EQ(merge(), all_lines());
  SpoolIndex done(folder_ / "spool", 1000);
  EXPECT_THAT(unanswered_ranges(done, 0, prompt_bytes), testing::IsEmpty());
  EXPECT_EQ(done.results(), prompt_bytes / line_bytes);
}

TEST_F(Merge, OfAnEmptyPromptFileIsEmpty) {
  SpoolWriterOptions options;
  options.folder = folder_ / "spool";
  SpoolWriter(options).close();
  EXPECT_TRUE(merge().empty());
}

TEST_F(Merge, AMissingLineIsNamed) {
  auto spool = writer(0);
  answer(*spool, 0, 2000);
  answer(*spool, 2010, prompt_bytes);
  spool->close();
  EXPECT_THAT(
      [&] { merge(); },
      ThrowsMessage<UserError>(HasSubstr(
          "10 bytes of the prompt file have none (in 1 place, the first bytes 2000 to 2010)")));
}

TEST_F(Merge, MissingEndsAreNamed) {
  auto spool = writer(0);
  answer(*spool, 20, prompt_bytes - 30);
  spool->close();
  EXPECT_THAT([&] { merge(); },
              ThrowsMessage<UserError>(HasSubstr(
                  "50 bytes of the prompt file have none (in 2 places, the first bytes 0 to 20)")));
}

TEST_F(Merge, TheFirstAnswerOfALineCounts) {
  auto spool = writer(0);
  answer(*spool, 0, prompt_bytes);
  FinishedRequest again = sample_result(40);
  again.id = "the second answer";
  spool->put(std::move(again));
  spool->close();
  EXPECT_EQ(merge(), all_lines());
  const MergeResult result =
      merge_spool({folder_ / "spool"}, [](std::int64_t, std::int32_t, FinishedRequest&&) {});
  EXPECT_EQ(result.doubles, 1);
}

TEST_F(Merge, AnAnswerToBytesThatAreNoLineIsNamed) {
  auto spool = writer(0);
  answer(*spool, 0, prompt_bytes);
  spool->put(sample_result(45));
  spool->close();
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(
                                    HasSubstr("1 results overlap others (the first at byte 45)")));
}

TEST_F(Merge, TellsWhichRunAnswered) {
  auto first = writer(0, 0);
  answer(*first, 0, 1000);
  first->close();
  auto second = writer(0, 3);
  answer(*second, 1000, prompt_bytes);
  second->close();
  merge_spool({folder_ / "spool"}, [](std::int64_t index, std::int32_t run, FinishedRequest&&) {
    EXPECT_EQ(run, index < 100 ? 0 : 3);
  });
}

TEST_F(Merge, HandsGapsOutWhenAskedTo) {
  auto spool = writer(0);
  answer(*spool, 20, 100);
  answer(*spool, 130, prompt_bytes - 10);
  spool->close();
  std::vector<ByteRange> gaps;
  std::vector<std::int64_t> gap_indices;
  MergeOptions options{.folder = folder_ / "spool"};
  options.first_index = 7;
  options.on_gap = [&](ByteRange gap, std::int64_t index) {
    gaps.push_back(gap);
    gap_indices.push_back(index);
    return gap.bytes() / line_bytes;
  };
  const MergeResult result =
      merge_spool(options, [](std::int64_t index, std::int32_t, FinishedRequest&& request) {
        EXPECT_EQ(index, 7 + request.key.offset / line_bytes);
      });
  EXPECT_THAT(gaps, testing::ElementsAre(ByteRange{0, 20}, ByteRange{100, 130},
                                         ByteRange{prompt_bytes - 10, prompt_bytes}));
  EXPECT_THAT(gap_indices, testing::ElementsAre(7, 17, 7 + prompt_bytes / line_bytes - 1));
  EXPECT_EQ(result.unanswered, 6);
}

TEST_F(Merge, AFileWithoutASoundHeaderIsDamageOfTheOthers) {
  auto spool = writer(0);
  answer(*spool, 0, prompt_bytes);
  spool->close();
  write_file(folder_ / "spool/run-0000.replica-0001.spool", "millrsp");  // torn at its creation
  EXPECT_EQ(merge(), all_lines());
  SpoolIndex index(folder_ / "spool", 1000);
  EXPECT_EQ(index.damage().unreadable_files, 1);
}

TEST_F(Merge, AMissingAndADoubleLineDoNotCancelOut) {
  auto spool = writer(0);
  answer(*spool, 10, prompt_bytes);
  spool->put(sample_result(40));
  spool->close();
  EXPECT_THAT([&] { merge(); },
              ThrowsMessage<UserError>(testing::AllOf(HasSubstr("10 bytes of the prompt file"),
                                                      HasSubstr("the first bytes 0 to 10"))));
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
  answer(*spool, 0, prompt_bytes);
  spool->close();
  std::filesystem::resize_file(spool->path(), std::filesystem::file_size(spool->path()) - 3);
  EXPECT_THAT([&] { merge(); }, ThrowsMessage<UserError>(HasSubstr("bytes torn off")));
}

TEST(EntrySorter, OfNothingGivesNothing) {
  EntrySorter sorter(".", 1000);
  EXPECT_FALSE(sorter.next());
}

}  // namespace
}  // namespace millrace
