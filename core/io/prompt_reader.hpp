// Streams the prompt file: takes byte ranges, parses and tokenizes their lines on a thread of its
// own, and hands requests to the engine through a queue bounded in bytes. Memory does not depend on
// the length of the file. A line belongs to the range that holds its first byte.
//
// A line that is no valid prompt still becomes a Request, with `error` set: each line of the file
// has exactly one result. Errors of the file itself (unreadable, shorter than before) are thrown by
// take() and wait().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/request_source.hpp"
#include "core/io/prompt_line.hpp"
#include "core/io/spool.hpp"

namespace millrace {

struct ByteRange;

struct PromptReaderOptions {
  std::string path;
  PromptFormat format = PromptFormat::text;
  std::int64_t max_line_bytes = 64 << 20;  // longer lines are that line's error
  std::int64_t queue_bytes = 8 << 20;      // of parsed requests that wait for the engine
};

class PromptReader : public RequestSource {
 public:
  // `next_range` is called on the reader's thread until it returns nothing (WorkClient::next).
  // `count_lines` is called on the reader's thread after the last line of a range was queued.
  // `parser` must outlive the reader.
  PromptReader(PromptReaderOptions options, const PromptLineParser& parser,
               std::function<std::optional<ByteRange>()> next_range,
               std::function<void(const RangeLines&)> count_lines);
  // Stops the thread, also when requests are left.
  ~PromptReader() override;
  PromptReader(const PromptReader&) = delete;
  PromptReader& operator=(const PromptReader&) = delete;

  bool take(std::vector<Request>& out, std::size_t limit) override;
  void wait() override;

  std::int64_t bytes_read() const;  // of the ranges taken so far, by this replica
  std::int64_t lines_read() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
