// How many lines a stretch of a file has.
#pragma once

#include <cstdint>
#include <filesystem>

#include "comm/work_ranges.hpp"

namespace millrace {

// Lines that begin in `range`, which begins where a line does. Reads the range once, in blocks.
// Throws UserError when the file cannot be read or ends before the range does.
std::int64_t count_lines(const std::filesystem::path& file, ByteRange range);

}  // namespace millrace
