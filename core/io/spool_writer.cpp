#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "comm/temporary_error.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/spool.hpp"
#include "core/io/spool_frame.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

// What a finished request holds in memory, about.
std::int64_t memory_bytes(const FinishedRequest& request) {
  std::size_t bytes = sizeof request + request.id.size() + request.error.size() +
                      request.prompt_token_ids.size() * sizeof(std::int32_t);
  for (const Completion& completion : request.completions) {
    bytes += sizeof completion + completion.text.size() +
             completion.token_ids.size() * sizeof(std::int32_t);
    for (const TokenLogprobs& logprobs : completion.logprobs) {
      bytes += sizeof logprobs + logprobs.top.size() * sizeof(logprobs.top[0]);
    }
  }
  return static_cast<std::int64_t>(bytes);
}

PosixFile create_spool(const SpoolWriterOptions& options) {
  std::error_code error;
  std::filesystem::create_directory(options.folder, error);
  if (error) {
    throw UserError("cannot create {}: {}", options.folder.string(), error.message());
  }
  return PosixFile::create(options.folder / fmt::format("run-{:04}.replica-{:04}.spool",
                                                        options.header.run, options.header.replica),
                           true);
}

void keep_to_owner(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  if (error) {
    throw UserError("cannot keep {} to its owner: {}", folder.string(), error.message());
  }
}

}  // namespace

class SpoolWriter::Impl {
 public:
  explicit Impl(SpoolWriterOptions options)
      : options_(std::move(options)), file_(create_spool(options_)), path_(file_.path()) {
    lock();
    keep_to_owner(options_.folder);
    const auto magic = std::as_bytes(std::span(spool_magic));
    buffer_.assign(magic.begin(), magic.end());
    append_frame(buffer_, options_.header);
    write_buffer();
    file_.sync();
    sync_folder(options_.folder);
    sync_folder(folder_of(options_.folder));
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() { stop(); }

  void put(FinishedRequest&& request) {
    if (request.line_bytes <= 0) {
      throw std::logic_error(
          "a finished request must say which bytes of the prompt file it answers");
    }
    const std::int64_t bytes = memory_bytes(request);
    std::unique_lock lock(mutex_);
    // One request larger than the whole queue may enter an empty one.
    room_.wait(lock, [&] {
      return error_ || queued_bytes_ == 0 || queued_bytes_ + bytes <= options_.queue_bytes;
    });
    rethrow();
    requests_.push_back(std::move(request));
    queued_bytes_ += bytes;
    ++added_;
    work_.notify_one();
  }

  void flush() {
    std::unique_lock lock(mutex_);
    const std::int64_t wanted = added_;
    sync_until_ = std::max(sync_until_, wanted);
    work_.notify_one();
    room_.wait(lock, [&] { return error_ || synced_ >= wanted; });
    rethrow();
  }

  void close() {
    flush();
    stop();
    file_.close();
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  // Nobody else writes to a file that was made just now; a script may be looking at its lock.
  void lock() {
    const auto patience = Clock::now() + std::chrono::seconds(5);
    while (!file_.try_lock(false)) {
      if (Clock::now() > patience) {
        throw TemporaryError("{} is locked by another process", path_.string());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  void rethrow() const {
    if (error_) {
      std::rethrow_exception(error_);
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      work_.notify_one();
    }
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  void run() {
    try {
      loop();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      room_.notify_all();
    }
  }

  void loop() {
    std::int64_t written = 0;  // requests
    auto sync_due = Clock::time_point::max();
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto has_work = [&] { return ending_ || !requests_.empty() || sync_until_ > synced_; };
      if (sync_due == Clock::time_point::max()) {
        work_.wait(lock, has_work);
      } else {
        work_.wait_until(lock, sync_due, has_work);
      }
      const auto requests = std::exchange(requests_, {});
      queued_bytes_ = 0;
      const bool ending = ending_;
      const bool sync_wanted = sync_until_ > synced_ || ending;
      room_.notify_all();
      lock.unlock();

      for (const FinishedRequest& request : requests) {
        append_frame(buffer_, request);
        if (buffer_.size() >= write_bytes) {
          on_disk([&] { write_buffer(); });
        }
      }
      on_disk([&] { write_buffer(); });
      written += static_cast<std::int64_t>(requests.size());
      const auto now = Clock::now();
      if (sync_due == Clock::time_point::max() && written > durable_) {
        sync_due = now + std::chrono::duration_cast<Clock::duration>(
                             std::chrono::duration<double>(options_.sync_seconds));
      }
      if ((sync_wanted || now >= sync_due) && written > durable_) {
        on_disk([&] { file_.sync(); });
        durable_ = written;
        sync_due = Clock::time_point::max();
      }

      lock.lock();
      synced_ = durable_;
      room_.notify_all();
      if (ending && requests_.empty()) {
        return;
      }
    }
  }

  // What goes wrong while the job runs (no space left, a file system that went away) can be mended.
  template <typename Action>
  static void on_disk(Action action) {
    try {
      action();
    } catch (const UserError& error) {
      throw UserError("{}; what was finished before is kept: mend that and run again with --resume",
                      error.what());
    }
  }

  // When the disk takes only a part, the whole frames in it are kept: the reader drops the torn
  // one.
  void write_buffer() {
    file_.write(buffer_);
    buffer_.clear();
  }

  static constexpr std::size_t write_bytes = 1 << 20;

  SpoolWriterOptions options_;
  PosixFile file_;
  std::filesystem::path path_;
  std::vector<std::byte> buffer_;
  std::int64_t durable_ = 0;  // requests that are on the disk

  std::mutex mutex_;
  std::condition_variable work_;  // for the writer: something to do
  std::condition_variable room_;  // for the others: room in the queue, a sync done, an error
  std::vector<FinishedRequest> requests_;
  std::int64_t queued_bytes_ = 0;
  std::int64_t added_ = 0;       // requests put so far
  std::int64_t sync_until_ = 0;  // flush() waits for so many of them
  std::int64_t synced_ = 0;      // durable_, for flush()
  bool ending_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

SpoolWriter::SpoolWriter(SpoolWriterOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
SpoolWriter::~SpoolWriter() = default;
void SpoolWriter::put(FinishedRequest&& request) { impl_->put(std::move(request)); }
void SpoolWriter::flush() { impl_->flush(); }
void SpoolWriter::close() { impl_->close(); }
const std::filesystem::path& SpoolWriter::path() const { return impl_->path(); }

}  // namespace millrace
