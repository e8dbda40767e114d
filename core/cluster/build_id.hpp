// Which build a program is: the identity that the linker gave it. Two files with the same one were
// linked from the same objects, whether they are stripped or not.
#pragma once

#include <filesystem>
#include <string>

namespace millrace {

// The GNU build id of an ELF file of this machine's kind, as hexadecimal digits; empty when it has
// none or is no such file.
std::string build_id(const std::filesystem::path& program = "/proc/self/exe");

}  // namespace millrace
