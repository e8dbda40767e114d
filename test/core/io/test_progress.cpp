#include "core/io/progress.hpp"

#include <gmock/gmock.h>

#include <array>
#include <string>

namespace millrace {
namespace {

ProgressState state() {
  ProgressState state;
  state.now.requests_done = 1200;
  state.now.lines_read = 2000;
  state.now.bytes_read = 100'000;
  state.now.output_tokens = 60'000;
  state.now.running = 256;
  state.now.waiting = 31;
  state.now.blocks_in_use = 87;
  state.now.blocks = 100;
  state.before.output_tokens = 35'000;
  state.seconds = 60;
  state.seconds_before = 58;
  state.prompt_bytes = 1'000'000;
  return state;
}

TEST(ProgressLine, EstimatesTheLinesOfAFileThatIsNotReadYet) {
  // A tenth of the bytes held 2,000 lines; 1,200 took a minute, so the other 18,800 take 15:40.
  EXPECT_EQ(progress_line(state()),
            "1,200/~20,000 prompts (6%) | 12,500 tok/s | 256 running, 31 waiting | KV 87% | "
            "ETA 0:15:40");
}

TEST(ProgressLine, CountsTheLinesOfAFileThatIsRead) {
  ProgressState read = state();
  read.now.bytes_read = read.prompt_bytes;
  read.now.requests_failed = 3;
  EXPECT_EQ(progress_line(read),
            "1,200/2,000 prompts (60%), 3 with an error | 12,500 tok/s | 256 running, 31 waiting | "
            "KV 87% | ETA 0:00:40");
}

TEST(ProgressLine, StartsAndEndsWithoutNonsense) {
  EXPECT_EQ(progress_line({}), "0/0 prompts | 0 running, 0 waiting");
  ProgressState begun;
  begun.prompt_bytes = 100;
  EXPECT_EQ(progress_line(begun), "0 prompts | 0 running, 0 waiting");
  ProgressState done = state();
  done.now = {};
  done.now.requests_done = done.now.lines_read = 10;
  done.now.bytes_read = done.prompt_bytes;
  done.now.output_tokens = 35'003;
  EXPECT_EQ(progress_line(done), "10/10 prompts (100%) | 1.5 tok/s | 0 running, 0 waiting");
}

TEST(ProgressDisplay, PrintsALineEverySoManySecondsIntoALog) {
  std::FILE* log = std::tmpfile();
  ProgressDisplay progress(log, 1'000'000, 10);
  for (int second = 0; second <= 35; ++second) {
    progress.update(state().now, second);
  }
  progress.finish(state().now, 36);
  std::rewind(log);
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), log));
  std::fclose(log);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_THAT(text, testing::HasSubstr("6,000 tok/s")) << "ten seconds after nothing";
  EXPECT_THAT(text, testing::HasSubstr("1,667 tok/s")) << "the last line is of the whole run";
}

}  // namespace
}  // namespace millrace
