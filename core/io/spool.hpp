// The journal of finished work. Each replica's leader appends every finished request, with the
// bytes of the prompt file that it answers, to a file of its own in OUTPUT.spool/; the merge makes
// the result file of them, and a later run learns from them what is left to do (spool_index.hpp).
//
// A spool file is the 8 bytes "millrspl" and then frames, all little-endian:
//
//     u32 type | u32 payload bytes | u32 CRC-32C of the payload | u32 CRC-32C of the 12 bytes
//     before payload
//
// The first frame is the header. A frame whose own 16 bytes are sound but whose payload is not can
// be stepped over; where the 16 bytes are damaged or cut, the rest of the file cannot be trusted. A
// file is only ever appended to by the process that made it: a resumed job starts new files, so a
// torn tail stays where the crash left it and everything before it is kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/engine/result_sink.hpp"
#include "core/io/fingerprint.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

// Raised when the meaning of a frame changes; readers refuse files of another version.
inline constexpr std::uint32_t spool_schema_version = 2;

// The first frame of each spool file.
struct SpoolHeader {
  Fingerprint fingerprint;  // what must be equal to resume
  // The bytes of the prompt file whose lines the job answers: all of it, or a shard. A line begins
  // at `prompt_begin`, unless that is the file's end.
  std::int64_t prompt_begin = 0;
  std::int64_t prompt_end = 0;
  std::int32_t run = 0;  // 0 for the first attempt, counted up by each resume
  std::int32_t replica = 0;
  // For a report on a job that never came to its end.
  std::int64_t prompt_file_bytes = 0;
  std::string prompt_file;                                    // absolute path
  std::vector<std::pair<std::string, std::string>> settings;  // flag, value
};

enum class FrameType : std::uint32_t { header = 1, request = 2 };

// OUTPUT.spool, the folder of all spool files of the job that writes `output`.
std::filesystem::path spool_folder(const std::filesystem::path& output);

// The spool files in a folder, sorted by name. Empty when the folder does not exist.
std::vector<std::filesystem::path> spool_files(const std::filesystem::path& folder);

// One more than the highest run number in the folder; 0 when it holds no spool.
std::int32_t next_spool_run(const std::filesystem::path& folder);

struct SpoolWriterOptions {
  std::filesystem::path folder;
  SpoolHeader header;
  double sync_seconds = 5;             // --checkpoint-interval: on the disk after at most this long
  std::int64_t queue_bytes = 8 << 20;  // finished requests that may wait for the disk
};

// Appends to one new spool file (mode 0600) on a thread of its own. The file is locked while the
// writer lives: a rank that outlives its job is waited for (wait_for_writers).
// A failed write (disk full, I/O error) is cut back to the last whole frame, stops the writer, and
// is thrown as a UserError by the next put() and by close().
class SpoolWriter : public ResultSink {
 public:
  // Creates the folder and the file, and writes the header. Throws UserError when it cannot.
  explicit SpoolWriter(SpoolWriterOptions options);
  // Writes what is queued if close() was not called; errors are then lost.
  ~SpoolWriter() override;
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  // Queues it; waits while the queue is full. Any thread.
  void put(FinishedRequest&& request) override;
  // Blocks until everything added before is on the disk. Throws what went wrong.
  void flush();
  // flush(), then ends the thread and closes the file. Nothing may be added afterwards.
  void close();

  const std::filesystem::path& path() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// A finished request's place in the prompt file and in the spool.
struct SpoolEntry {
  std::int64_t line_offset = 0;  // of the line in the prompt file
  std::int64_t line_bytes = 0;   // to where the next line begins
  std::int64_t position = 0;     // of the payload in the spool file
  std::uint32_t bytes = 0;       // of the payload
  std::uint32_t file = 0;  // which spool file: for those who read several; the reader leaves it 0
};

// What a reader could not use.
struct SpoolDamage {
  std::int64_t torn_bytes = 0;        // at the end of the file, behind the last whole frame
  std::int64_t damaged_frames = 0;    // stepped over: the checksum of the payload did not match
  std::int64_t unreadable_files = 0;  // without a sound header: nothing of them is used
  bool any() const { return torn_bytes != 0 || damaged_frames != 0 || unreadable_files != 0; }
};

// "2 damaged frames, 31 bytes torn off"; empty when there is none.
std::string describe(const SpoolDamage& damage);

// A file that is no spool, or has no sound header: a crash can leave one.
class UnreadableSpool : public UserError {
 public:
  using UserError::UserError;
};

// Returns when no process writes to a spool file of the folder any more: the last ranks of a job
// that was killed may outlive it by a moment. Throws TemporaryError when one still does after
// `patience_seconds`. Sees processes of other hosts where the file system shares locks.
void wait_for_writers(const std::filesystem::path& folder, double patience_seconds);

// Reads one spool file front to back in bounded memory: one frame at a time.
class SpoolReader {
 public:
  // Throws UserError when the file cannot be opened or was written by another version, and
  // UnreadableSpool.
  explicit SpoolReader(const std::filesystem::path& path);
  ~SpoolReader();
  SpoolReader(SpoolReader&&) noexcept;
  SpoolReader& operator=(SpoolReader&&) noexcept;

  const SpoolHeader& header() const;

  // Where the next frame begins in the file.
  std::int64_t position() const;

  // The next sound frame (read_request() of spool_frame.hpp decodes it). Empty at the end.
  std::optional<SpoolEntry> next();

  // Complete once next() has returned empty.
  const SpoolDamage& damage() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
