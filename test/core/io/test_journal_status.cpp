#include "core/io/journal_status.hpp"

#include <gmock/gmock.h>

#include <optional>

#include "core/io/journal_lock.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Status : public testing::Test {
 protected:
  // A run that answers lines `begin` to `end` of 100 lines of 10 bytes.
  void answer(std::int32_t run, int begin, int end) const {
    SpoolWriterOptions options;
    options.folder = spool_folder(output_);
    options.header.run = run;
    options.header.prompt_end = 1000;
    SpoolWriter writer(options);
    for (int i = begin; i < end; ++i) writer.put(sample_result(10 * i));
    writer.close();
  }
  std::string text() const { return status_text(output_, journal_status(output_)); }

  TemporaryFolder folder_;
  const fs::path output_ = folder_ / "o.jsonl";
};

TEST_F(Status, SaysWhatIsAnsweredAndWhatComesNext) {
  EXPECT_THAT(text(), HasSubstr("next          begin: "));
  answer(0, 0, 30);
  answer(1, 25, 40);  // five of them for the second time
  const JournalStatus status = journal_status(output_);
  EXPECT_EQ(status.runs, 2);
  EXPECT_EQ(status.answered, 40);
  EXPECT_EQ(status.answered_bytes, 400);
  EXPECT_EQ(status.job_bytes, 1000);
  EXPECT_FALSE(status.is_written);
  EXPECT_THAT(text(), HasSubstr("2 runs, nobody writes to it\n"));
  EXPECT_THAT(text(), HasSubstr("40 prompts, 400 of the 1,000 bytes of the job's prompts\n"));
  EXPECT_THAT(text(), HasSubstr("with --resume answers the rest\n"));
  answer(2, 40, 100);
  EXPECT_THAT(text(), HasSubstr("with --resume writes the result\n"));
  write_file(output_, "");
  EXPECT_THAT(text(), HasSubstr("nothing: "));
}

TEST_F(Status, SaysThatAJobRuns) {
  std::optional<JournalLock> lock(JournalLock::take(spool_folder(output_), 0));
  EXPECT_THAT(text(), HasSubstr("wait: the job runs, process "));
  answer(0, 0, 1);
  lock.reset();
  EXPECT_THAT(text(), HasSubstr("answers the rest"));
  SpoolWriterOptions options;  // a rank that has outlived its job
  options.folder = spool_folder(output_);
  options.header.run = 1;
  options.header.prompt_end = 1000;
  const SpoolWriter writer(options);
  EXPECT_THAT(text(), HasSubstr("wait: the job runs\n"));
}

TEST_F(Status, AnswerBytesGrowWithAnswersAndWithNothingElse) {
  EXPECT_EQ(answer_bytes(output_), 0);
  answer(0, 0, 0);
  answer(1, 0, 0);
  EXPECT_EQ(answer_bytes(output_), 0);
  answer(2, 0, 1);
  const std::int64_t one = answer_bytes(output_);
  EXPECT_GT(one, 0);
  answer(3, 0, 1);
  EXPECT_EQ(answer_bytes(output_), 2 * one);
  write_file(spool_folder(output_) / "run-0004.replica-0000.spool", "millr");  // died in the header
  EXPECT_EQ(answer_bytes(output_), 2 * one);
}

TEST_F(Status, OfWhatNoJobWritesIsRefused) {
  EXPECT_THROW(journal_status(folder_ / "o.csv"), UserError);
}

}  // namespace
}  // namespace millrace
