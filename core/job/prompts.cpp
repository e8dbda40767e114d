#include "core/job/prompts.hpp"

#include <array>
#include <cstddef>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"
#include "core/io/line_scanner.hpp"
#include "core/io/posix_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Where the first line begins at or after `offset`.
std::int64_t next_line(const std::filesystem::path& file, std::int64_t offset) {
  constexpr std::int64_t longest_line = 1;  // its text is not wanted
  LineScanner scanner(file, longest_line);
  scanner.start(offset, scanner.file_bytes());
  const auto line = scanner.next();
  return line ? line->offset : scanner.file_bytes();
}

// What Windows programs call Unicode would be an error in every other line, and odd text in the
// rest.
void refuse_utf16(const std::filesystem::path& file) {
  std::array<std::byte, 2> mark{};
  if (PosixFile::open(file).read_at(0, mark) < mark.size()) return;
  const bool is_little = mark[0] == std::byte{0xff} && mark[1] == std::byte{0xfe};
  const bool is_big = mark[0] == std::byte{0xfe} && mark[1] == std::byte{0xff};
  if (is_little || is_big) {
    throw UserError("--prompts: '{}' is UTF-16, but prompts are UTF-8: iconv -f UTF-16 -t UTF-8",
                    file.string());
  }
}

}  // namespace

Prompts find_prompts(const Comm& world, const RunConfig& config) {
  namespace fs = std::filesystem;
  Prompts prompts;
  prompts.file = config.input.prompts;
  agree(world, [&] {
    std::error_code error;
    const fs::file_status status = fs::status(prompts.file, error);
    if (fs::exists(status) && !fs::is_regular_file(status)) {
      throw UserError("--prompts: '{}' is no regular file: it is read in parts, and more than once",
                      config.input.prompts);
    }
    if (!error) prompts.file_bytes = static_cast<std::int64_t>(fs::file_size(prompts.file, error));
    if (error) {
      throw UserError("--prompts: cannot read '{}' on host {}: {}", config.input.prompts,
                      host_name(), error.message());
    }
  });
  if (world.all_reduce_min(prompts.file_bytes) != world.all_reduce_max(prompts.file_bytes)) {
    throw UserError("--prompts: '{}' has not the same size on all hosts", config.input.prompts);
  }
  const Shard& shard = config.input.shard;
  agree(world, [&] {
    if (world.rank() != 0) return;
    refuse_utf16(prompts.file);
    prompts.part = shard_of(prompts.file, prompts.file_bytes, shard.index, shard.count);
  });
  prompts.part = {world.all_reduce_max(prompts.part.begin), world.all_reduce_max(prompts.part.end)};
  return prompts;
}

ByteRange shard_of(const std::filesystem::path& file, std::int64_t bytes, int index, int count) {
  const auto cut = [&](std::int64_t number) {
    if (number == 0) {
      return std::int64_t{0};
    }
    // bytes * number / count without overflow.
    const std::int64_t at = bytes / count * number + bytes % count * number / count;
    return number == count ? bytes : next_line(file, at);
  };
  return {cut(index), cut(index + 1)};
}

}  // namespace millrace
