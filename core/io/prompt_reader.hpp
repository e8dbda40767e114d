// Streams the prompt file: takes byte ranges, parses and tokenizes their lines on a thread of its
// own, and hands requests to the engine through a bounded queue. Memory does not depend on the
// length of the file. A line belongs to the range that holds its first byte.
//
// A line that is no valid prompt still becomes a Request, with `error` set: each line of the file
// has exactly one result. Errors of the file itself (unreadable, shorter than before) and a chat
// template that is of no use are thrown by take() and wait(), after the requests that were read
// before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/work_server.hpp"
#include "core/engine/request_source.hpp"
#include "core/io/prompt_line.hpp"

namespace millrace {

struct PromptReaderOptions {
  std::string path;
  std::int64_t max_line_bytes = 64 << 20;  // longer lines are that line's error
  // Requests that wait for the engine; bytes, so that long prompts do not fill the memory.
  std::size_t queue_requests = 256;
  std::int64_t queue_bytes = 8 << 20;
};

class PromptReader : public RequestSource {
 public:
  // `next_range` (WorkClient::next) is called on the reader's thread until it returns nothing.
  PromptReader(PromptReaderOptions options, PromptLineParser parser,
               std::function<std::optional<ByteRange>()> next_range);
  // Stops the thread, also when requests are left; waits for a call of `next_range` to return.
  ~PromptReader() override;
  PromptReader(const PromptReader&) = delete;
  PromptReader& operator=(const PromptReader&) = delete;

  bool take(std::vector<Request>& out, std::size_t limit) override;
  bool wait(std::chrono::milliseconds at_most) override;

  // By this reader so far; any thread.
  std::int64_t bytes_read() const;
  std::int64_t lines_read() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
