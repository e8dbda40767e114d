// How far the job is: one line, redrawn on a terminal, printed every N seconds into a log.
// The counters are plain numbers that add up over replicas.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace millrace {

// One replica's counters, or the sum over replicas. Trivially copyable: sent between ranks as
// bytes.
struct ProgressCounters {
  std::int64_t requests_done = 0;
  std::int64_t requests_failed = 0;  // of those done, with an error
  std::int64_t lines_read = 0;
  std::int64_t bytes_read = 0;  // of the prompt file, by all ranges that were read
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t running = 0;  // sequences
  std::int64_t waiting = 0;
  std::int64_t blocks_in_use = 0;
  std::int64_t blocks = 0;

  ProgressCounters& operator+=(const ProgressCounters& other);
};

struct ProgressState {
  ProgressCounters now;
  ProgressCounters before;        // what the last line showed
  double seconds = 0;             // since the start
  double seconds_before = 0;      // when the last line was shown
  std::int64_t prompt_bytes = 0;  // size of the prompt file
};

// "1,204/~20,000 prompts (6%) | 12,553 tok/s | 256 running, 31 waiting | KV 87% | ETA 0:04:10".
// While the file is not read to its end its number of lines is estimated from what was read and
// marked with "~". Tokens/s are of the output, since the line before. Errors are shown when there
// are any.
std::string progress_line(const ProgressState& state);

// Prints progress to a stream: redraws one line on a terminal, else a line every
// `log_seconds` (0: nothing).
class ProgressDisplay {
 public:
  ProgressDisplay(std::FILE* stream, std::int64_t prompt_bytes, double log_seconds);

  // Prints when it is time to; cheap otherwise. `seconds` since the start.
  void update(const ProgressCounters& counters, double seconds);
  // The last state, and on a terminal the end of the line.
  void finish(const ProgressCounters& counters, double seconds);

 private:
  void print(double seconds);

  std::FILE* stream_;
  bool terminal_;
  double interval_seconds_;
  ProgressState state_;
};

}  // namespace millrace
