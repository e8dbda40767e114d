#include "core/io/prompt_reader.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "core/io/line_scanner.hpp"

namespace millrace {
namespace {

// What a parsed request holds in memory, about.
std::int64_t memory_bytes(const Request& request) {
  return static_cast<std::int64_t>(sizeof request + request.id.size() + request.error.size() +
                                   request.prompt_tokens.size() * sizeof(std::int32_t));
}

}  // namespace

class PromptReader::Impl {
 public:
  Impl(PromptReaderOptions options, PromptLineParser parser,
       std::function<std::optional<ByteRange>()> next_range)
      : options_(std::move(options)),
        parser_(std::move(parser)),
        next_range_(std::move(next_range)),
        scanner_(options_.path, options_.max_line_bytes),
        thread_([this] { run(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      room_.notify_one();
    }
    thread_.join();
  }

  bool take(std::vector<Request>& out, std::size_t limit) {
    const std::lock_guard lock(mutex_);
    if (queue_.empty() && done_) {
      rethrow();
      return false;
    }
    for (; limit > 0 && !queue_.empty(); --limit) {
      queued_bytes_ -= memory_bytes(queue_.front());
      out.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    room_.notify_one();
    return true;
  }

  bool wait(std::chrono::milliseconds at_most) {
    std::unique_lock lock(mutex_);
    if (!ready_.wait_for(lock, at_most, [this] { return done_ || !queue_.empty(); })) {
      return false;
    }
    if (queue_.empty()) {
      rethrow();
    }
    return true;
  }

  std::int64_t bytes_read() const { return bytes_read_; }
  std::int64_t lines_read() const { return lines_read_; }

 private:
  void rethrow() const {
    if (error_) {
      std::rethrow_exception(error_);
    }
  }

  void run() {
    std::exception_ptr error;
    try {
      while (const auto range = next_range_()) {
        if (!read(*range)) {
          break;
        }
      }
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    error_ = error;
    done_ = true;
    ready_.notify_all();
  }

  // False when told to stop.
  bool read(const ByteRange& range) {
    scanner_.start(range.begin, range.end);
    std::int64_t lines = 0;
    std::int64_t counted_to = range.begin;
    while (const auto line = scanner_.next()) {
      Request request = line->too_long
                            ? PromptLineParser::too_long(line->offset, options_.max_line_bytes)
                            : parser_.parse(line->offset, line->text);
      request.index = lines++;
      request.line_bytes = line->bytes;
      if (!push(std::move(request))) {
        return false;
      }
      const std::int64_t read_to = std::min<std::int64_t>(scanner_.position(), range.end);
      bytes_read_ += read_to - std::exchange(counted_to, read_to);
      ++lines_read_;
    }
    bytes_read_ += range.end - counted_to;
    return true;
  }

  bool push(Request request) {
    const std::int64_t bytes = memory_bytes(request);
    std::unique_lock lock(mutex_);
    // A request larger than the whole queue may enter an empty one.
    room_.wait(lock, [&] {
      return stopping_ || queue_.empty() ||
             (queue_.size() < options_.queue_requests &&
              queued_bytes_ + bytes <= options_.queue_bytes);
    });
    if (stopping_) {
      return false;
    }
    queue_.push_back(std::move(request));
    queued_bytes_ += bytes;
    ready_.notify_one();
    return true;
  }

  const PromptReaderOptions options_;
  PromptLineParser parser_;
  std::function<std::optional<ByteRange>()> next_range_;
  LineScanner scanner_;
  std::atomic<std::int64_t> bytes_read_{0};
  std::atomic<std::int64_t> lines_read_{0};

  std::mutex mutex_;
  std::condition_variable ready_;  // for the engine: a request, or the end
  std::condition_variable room_;   // for the reader
  std::deque<Request> queue_;
  std::int64_t queued_bytes_ = 0;
  bool stopping_ = false;
  bool done_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it uses all of the above
};

PromptReader::PromptReader(PromptReaderOptions options, PromptLineParser parser,
                           std::function<std::optional<ByteRange>()> next_range)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(parser), std::move(next_range))) {}
PromptReader::~PromptReader() = default;
bool PromptReader::take(std::vector<Request>& out, std::size_t limit) {
  return impl_->take(out, limit);
}
bool PromptReader::wait(std::chrono::milliseconds at_most) { return impl_->wait(at_most); }
std::int64_t PromptReader::bytes_read() const { return impl_->bytes_read(); }
std::int64_t PromptReader::lines_read() const { return impl_->lines_read(); }

}  // namespace millrace
