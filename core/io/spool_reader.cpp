#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "comm/temporary_error.hpp"
#include "core/io/byte_codec.hpp"
#include "core/io/crc32c.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/report.hpp"
#include "core/io/spool.hpp"
#include "core/io/spool_frame.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

std::filesystem::path spool_folder(const std::filesystem::path& output) {
  return output.string() + ".spool";
}

std::vector<std::filesystem::path> spool_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(folder)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".spool") {
        files.push_back(entry.path());
      }
    }
  }
  std::ranges::sort(files);
  return files;
}

std::int32_t next_spool_run(const std::filesystem::path& folder) {
  std::int32_t next = 0;
  for (const auto& file : spool_files(folder)) {
    std::int32_t run = 0;
    if (std::sscanf(file.filename().c_str(), "run-%d.", &run) == 1) {
      next = std::max(next, run + 1);
    }
  }
  return next;
}

std::string describe(const SpoolDamage& damage) {
  std::string text;
  const auto add = [&](std::int64_t count, const char* what) {
    if (count != 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", with_commas(count), what);
    }
  };
  add(damage.damaged_frames, "damaged frames");
  add(damage.torn_bytes, "bytes torn off");
  add(damage.unreadable_files, "files without a sound header");
  return text;
}

void wait_for_writers(const std::filesystem::path& folder, double patience_seconds) {
  using Clock = std::chrono::steady_clock;
  const auto patience = Clock::now() + std::chrono::duration<double>(patience_seconds);
  for (const auto& path : spool_files(folder)) {
    PosixFile file = PosixFile::open(path);
    while (!file.try_lock(true)) {
      if (Clock::now() > patience) {
        throw TemporaryError(
            "{} is still being written, by a rank of another job or of an earlier start; when that "
            "has ended, run again with --resume",
            path.string());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

class SpoolReader::Impl {
 public:
  explicit Impl(const std::filesystem::path& path)
      : file_(PosixFile::open(path)), size_(file_.size()) {
    std::vector<std::byte> magic(spool_magic.size());
    if (file_.read_at(0, magic) < magic.size() ||
        !std::ranges::equal(magic, std::as_bytes(std::span(spool_magic)))) {
      throw UnreadableSpool("{} is not a spool file", path.string());
    }
    position_ = static_cast<std::int64_t>(magic.size());
    const std::optional<Frame> first = next_frame();
    if (!first || first->type != FrameType::header || damage_.any()) {
      throw UnreadableSpool("{} is damaged: it has no sound header", path.string());
    }
    try {
      header_ = decode_spool_header(payload_);
    } catch (const CodecError& error) {
      throw UnreadableSpool("{} is damaged: its header is {}", path.string(), error.what());
    } catch (const UserError& error) {
      throw UserError("{}: {}", path.string(), error.what());
    }
  }

  const SpoolHeader& header() const { return header_; }
  std::int64_t position() const { return position_; }
  const SpoolDamage& damage() const { return damage_; }

  std::optional<SpoolEntry> next() {
    while (const std::optional<Frame> frame = next_frame()) {
      try {
        if (frame->type == FrameType::request) {
          SpoolEntry entry = decode_line(payload_);
          entry.position = frame->position;
          entry.bytes = frame->payload_bytes;
          return entry;
        }
      } catch (const CodecError&) {
      }
      // A sound checksum over bytes that mean nothing: not written by this version.
      ++damage_.damaged_frames;
    }
    return std::nullopt;
  }

 private:
  struct Frame {
    FrameType type;
    std::int64_t position;  // of the payload
    std::uint32_t payload_bytes;
  };

  // Reads the next sound frame into payload_; steps over those whose payload is damaged.
  std::optional<Frame> next_frame() {
    while (position_ < size_) {
      const auto header_at = bytes_at(position_, frame_header_bytes);
      const auto header = decode_frame_header(header_at);
      const std::int64_t payload_at = position_ + static_cast<std::int64_t>(frame_header_bytes);
      if (!header || header->payload_bytes > size_ - payload_at) {
        damage_.torn_bytes = size_ - position_;
        position_ = size_;
        return std::nullopt;
      }
      payload_ = bytes_at(payload_at, header->payload_bytes);
      position_ = payload_at + header->payload_bytes;
      if (payload_.size() == header->payload_bytes && crc32c(payload_) == header->payload_crc) {
        return Frame{header->type, payload_at, header->payload_bytes};
      }
      ++damage_.damaged_frames;
    }
    return std::nullopt;
  }

  // A view of the file's bytes through a window that moves forward; shorter only at the end.
  std::span<const std::byte> bytes_at(std::int64_t position, std::size_t count) {
    if (position < window_position_ ||
        position + static_cast<std::int64_t>(count) >
            window_position_ + static_cast<std::int64_t>(window_.size())) {
      window_.resize(
          std::min(std::max(count, window_bytes), static_cast<std::size_t>(size_ - position)));
      window_.resize(file_.read_at(position, window_));
      window_position_ = position;
    }
    const auto from = static_cast<std::size_t>(position - window_position_);
    return std::span(window_).subspan(from, std::min(count, window_.size() - from));
  }

  static constexpr std::size_t window_bytes = 256 << 10;

  PosixFile file_;
  std::int64_t size_ = 0;
  SpoolHeader header_;
  std::int64_t position_ = 0;  // of the next frame
  std::span<const std::byte> payload_;
  std::vector<std::byte> window_;
  std::int64_t window_position_ = 0;
  SpoolDamage damage_;
};

SpoolReader::SpoolReader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
SpoolReader::~SpoolReader() = default;
SpoolReader::SpoolReader(SpoolReader&&) noexcept = default;
SpoolReader& SpoolReader::operator=(SpoolReader&&) noexcept = default;
const SpoolHeader& SpoolReader::header() const { return impl_->header(); }
std::int64_t SpoolReader::position() const { return impl_->position(); }
std::optional<SpoolEntry> SpoolReader::next() { return impl_->next(); }
const SpoolDamage& SpoolReader::damage() const { return impl_->damage(); }

}  // namespace millrace
