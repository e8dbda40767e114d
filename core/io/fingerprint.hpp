// What decides the tokens of a job, part by part: files (by size and digest) and settings. Two
// attempts of a job, or the shards of one, belong together when their fingerprints are equal; where
// they are not, the parts say what was changed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace millrace {

struct FingerprintPart {
  std::string name;   // "--temperature", "model.safetensors"
  std::string value;  // "0.7", "269,060,552 bytes, samples 0123456789abcdef"
  friend bool operator==(const FingerprintPart&, const FingerprintPart&) = default;
};

struct Fingerprint {
  std::vector<FingerprintPart> parts;
  std::vector<FingerprintPart> every_byte;  // whole files; only with --deep
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

// One sentence for each part that is not equal: "--temperature was 0, is 0.7". Whole files are
// compared where both sides have them.
std::vector<std::string> differences(const Fingerprint& was, const Fingerprint& is);

// "1,234 bytes, samples 0123456789abcdef": the size of a file, and a digest of all of it when it is
// small (32 MiB), else of its beginning, where checkpoints have their headers, its end and 32
// places between. Reads less than 1 MiB of a large file. Throws UserError when it cannot be read.
std::string sample_file(const std::filesystem::path& path);

// --deep: a file is digested in pieces of this many bytes, so that ranks can share the work, and
// the file's digest is that of its pieces'.
inline constexpr std::int64_t digest_piece_bytes = 4 << 20;
// The digest of piece number `piece`; the last one is shorter.
std::uint64_t digest_piece(const std::filesystem::path& path, std::int64_t piece);
std::string describe_pieces(std::int64_t file_bytes, const std::vector<std::uint64_t>& pieces);

}  // namespace millrace
