#include "core/io/fingerprint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "core/io/digest.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/report.hpp"
#include "core/text/unicode.hpp"

namespace millrace {
namespace {

constexpr std::int64_t small_file_bytes = 32 << 20;
constexpr std::int64_t head_bytes = 512 << 10;
constexpr std::int64_t tail_bytes = 64 << 10;
constexpr std::int64_t sample_bytes = 4 << 10;
constexpr std::int64_t samples = 32;

const FingerprintPart* find(const std::vector<FingerprintPart>& parts, const std::string& name) {
  const auto found = std::ranges::find(parts, name, &FingerprintPart::name);
  return found == parts.end() ? nullptr : &*found;
}

// For messages: a result file or a journal may be anybody's.
void compare(const std::vector<FingerprintPart>& was, const std::vector<FingerprintPart>& is,
             std::vector<std::string>& found) {
  const auto shown = [](const std::string& text) { return text::printable(text); };
  for (const FingerprintPart& part : was) {
    const FingerprintPart* now = find(is, part.name);
    if (now == nullptr) {
      found.push_back(
          fmt::format("{} was {}, is not there now", shown(part.name), shown(part.value)));
    } else if (now->value != part.value) {
      found.push_back(
          fmt::format("{} was {}, is {}", shown(part.name), shown(part.value), shown(now->value)));
    }
  }
  for (const FingerprintPart& part : is) {
    if (find(was, part.name) == nullptr) {
      found.push_back(fmt::format("{} was not there, is {}", shown(part.name), shown(part.value)));
    }
  }
}

// Appends the digest of bytes [begin, begin + count) of the file, or of what there is of them.
void add_digest(const PosixFile& file, std::int64_t begin, std::int64_t count,
                std::vector<std::uint64_t>& digests) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  bytes.resize(file.read_at(begin, bytes));
  digests.push_back(xxh64(bytes));
}

std::uint64_t digest_of(const std::vector<std::uint64_t>& digests) {
  return xxh64(std::as_bytes(std::span(digests)));
}

}  // namespace

std::vector<std::string> differences(const Fingerprint& was, const Fingerprint& is) {
  std::vector<std::string> found;
  compare(was.parts, is.parts, found);
  if (!was.every_byte.empty() && !is.every_byte.empty()) {
    compare(was.every_byte, is.every_byte, found);
  }
  return found;
}

std::string sample_file(const std::filesystem::path& path) {
  const PosixFile file = PosixFile::open(path);
  const std::int64_t size = file.size();
  std::vector<std::uint64_t> digests;
  if (size <= small_file_bytes) {
    add_digest(file, 0, size, digests);
  } else {
    add_digest(file, 0, head_bytes, digests);
    for (std::int64_t i = 1; i <= samples; ++i) {
      add_digest(file, size / (samples + 1) * i, sample_bytes, digests);
    }
    add_digest(file, size - tail_bytes, tail_bytes, digests);
  }
  return fmt::format("{} bytes, samples {:016x}", with_commas(size), digest_of(digests));
}

std::uint64_t digest_piece(const std::filesystem::path& path, std::int64_t piece) {
  std::vector<std::uint64_t> digests;
  add_digest(PosixFile::open(path), piece * digest_piece_bytes, digest_piece_bytes, digests);
  return digests.front();
}

std::string describe_pieces(std::int64_t file_bytes, const std::vector<std::uint64_t>& pieces) {
  return fmt::format("{} bytes, all {:016x}", with_commas(file_bytes), digest_of(pieces));
}

}  // namespace millrace
