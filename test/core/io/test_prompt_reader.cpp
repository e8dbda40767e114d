#include "core/io/prompt_reader.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "core/batch/request.hpp"
#include "core/text/tokenizer.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class PromptFile : public testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const Tokenizer tokenizer = load_tokenizer(MILLRACE_TEST_DATA "/models/gpt2");
    return tokenizer;
  }

  // Reads the given ranges of the file.
  std::unique_ptr<PromptReader> reader(std::vector<ByteRange> ranges) {
    PromptLineParser parser({prompt_format(options_.path), 100, 1 << 20}, {}, tokenizer(), {});
    ranges_ = std::move(ranges);
    next_range_ = 0;
    return std::make_unique<PromptReader>(
        options_, std::move(parser), [this]() -> std::optional<ByteRange> {
          const std::size_t range = next_range_++;
          return range < ranges_.size() ? std::optional(ranges_[range]) : std::nullopt;
        });
  }

  static std::vector<Request> read_all(PromptReader& reader, std::size_t limit = 3) {
    std::vector<Request> requests;
    do {
      reader.wait(std::chrono::hours(1));
    } while (reader.take(requests, limit));
    return requests;
  }

  void write(std::string_view name, std::string_view text) {
    write_file(folder_ / name, text);
    options_.path = (folder_ / name).string();
  }

  TemporaryFolder folder_;
  PromptReaderOptions options_;
  std::vector<ByteRange> ranges_;
  std::atomic<std::size_t> next_range_{0};
};

TEST_F(PromptFile, GivesEachLineOnceWithItsPlaceInTheFile) {
  write("p.txt", "one\ntwo\n\nfour");
  const auto prompts = reader({{0, 2}, {2, 9}, {9, 13}});
  const std::vector<Request> requests = read_all(*prompts);
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(requests[1].key.offset, 4);
  EXPECT_EQ(requests[1].prompt_tokens, tokenizer().encode("two", true));
  EXPECT_EQ(requests[2].error, "the line is empty");
  EXPECT_EQ(requests[3].key.offset, 9);
  std::int64_t next = 0;
  for (const Request& request : requests) {
    EXPECT_EQ(request.key.offset, next) << "lines tile the file";
    next += request.line_bytes;
  }
  EXPECT_EQ(next, 13);
  EXPECT_EQ(prompts->bytes_read(), 13);
  EXPECT_EQ(prompts->lines_read(), 4);
  std::vector<Request> none;
  EXPECT_FALSE(prompts->take(none, 10)) << "and stays exhausted";
}

TEST_F(PromptFile, ThatIsEmptyHasNoRequests) {
  write("p.jsonl", "");
  EXPECT_TRUE(read_all(*reader({})).empty());
  EXPECT_TRUE(read_all(*reader({{0, 0}})).empty());
}

TEST_F(PromptFile, BadLinesDoNotStopTheOthers) {
  options_.max_line_bytes = 40;
  write("p.jsonl",
        "{\"prompt\": [1]}\nnonsense\n" + std::string(100, 'x') + "\n{\"prompt\": [2]}\n");
  const std::vector<Request> requests = read_all(*reader({{0, 1000}}));
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_THAT(requests[0].prompt_tokens, ElementsAre(1));
  EXPECT_THAT(requests[1].error, HasSubstr("not a JSON object"));
  EXPECT_THAT(requests[2].error, HasSubstr("longer than 40 bytes"));
  EXPECT_THAT(requests[3].prompt_tokens, ElementsAre(2));
  EXPECT_EQ(requests[2].line_bytes, 101) << "also of a line that is too long";
}

TEST_F(PromptFile, TenThousandLinesOfWhichSomeAreBadAreAllAccountedFor) {
  std::string text;
  std::size_t bad = 0;
  for (int i = 0; i < 10'000; ++i) {
    static constexpr std::string_view bad_lines[] = {"", "{", "{\"prompt\": \"\xff\"}",
                                                     "{\"prompt\": \"x\", \"n\": 0}"};
    if (i % 100 == 7) {
      text += bad_lines[bad++ % 4];
    } else {
      text += "{\"prompt\": [" + std::to_string(i) + "]}";
    }
    text += '\n';
  }
  write("p.jsonl", text);
  std::vector<ByteRange> ranges;
  for (std::int64_t begin = 0; begin < static_cast<std::int64_t>(text.size()); begin += 777) {
    ranges.push_back(
        {begin, std::min<std::int64_t>(begin + 777, static_cast<std::int64_t>(text.size()))});
  }
  options_.queue_requests = 10;
  const std::vector<Request> requests = read_all(*reader(ranges), 7);
  ASSERT_EQ(requests.size(), 10'000U);
  std::size_t errors = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    errors += requests[i].error.empty() ? 0 : 1;
    if (requests[i].error.empty()) {
      ASSERT_THAT(requests[i].prompt_tokens, ElementsAre(static_cast<std::int32_t>(i)));
    }
  }
  EXPECT_EQ(errors, bad);
  EXPECT_EQ(requests.back().key.offset + requests.back().line_bytes,
            static_cast<std::int64_t>(text.size()));
}

TEST_F(PromptFile, IsNotReadFarAheadOfTheEngine) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += "prompt\n";
  }
  write("p.txt", text);
  options_.queue_requests = 5;
  const auto prompts = reader({{0, 3500}, {3500, 7000}});
  std::vector<Request> requests;
  prompts->wait(std::chrono::hours(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LE(prompts->lines_read(), 5);
  EXPECT_EQ(next_range_, 1U) << "the next range is left to who needs it";
  EXPECT_TRUE(prompts->take(requests, 1000));
  EXPECT_LE(requests.size(), 5U);
}

TEST_F(PromptFile, MayBeAbandoned) {
  std::string text(100'000, '\n');
  write("p.txt", text);
  const auto prompts = reader({{0, 100'000}});
  prompts->wait(std::chrono::hours(1));
  EXPECT_LT(prompts->lines_read(), 100'000) << "and ends here without being read";
}

TEST_F(PromptFile, ThatShrinksIsAnErrorAfterWhatWasRead) {
  // The reader waits with "two" until "one" is taken, and reads the long line's rest only then.
  write("p.txt", "one\ntwo\n" + std::string(3 << 20, 'x') + "\nlast");
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(options_.path));
  options_.queue_requests = 1;
  const auto prompts = reader({{0, size}});
  prompts->wait(std::chrono::hours(1));
  std::filesystem::resize_file(options_.path, 10);
  EXPECT_THAT([&] { read_all(*prompts); },
              ThrowsMessage<UserError>(HasSubstr("became shorter while it was read")));
}

TEST_F(PromptFile, ThatIsMissingIsAnErrorAtOnce) {
  options_.path = (folder_ / "none.txt").string();
  EXPECT_THAT([&] { reader({}); }, ThrowsMessage<UserError>(HasSubstr("none.txt")));
}

}  // namespace
}  // namespace millrace
