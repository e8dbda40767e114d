// The text of a plan file (linear_tuning.hpp): a line that says what the plans hold for, then a
// line for each plan with a checksum behind it. A damaged line is left out rather than handed to a
// library that takes 64 opaque bytes as they come.
//
// No CUDA here, so that it is tested without a GPU.
#pragma once

#include <string>
#include <vector>

namespace millrace {

// The plans of a file that begins with `signature`, without what the file adds to them; none of a
// file that is missing or begins otherwise.
std::vector<std::string> read_plan_lines(const std::string& path, const std::string& signature);

// Puts a file of these plans in the place of what is there. Who reads it meanwhile, or writes it
// from another process or host, finds either file whole. Throws UserError when it cannot be
// written, and leaves nothing behind then.
void write_plan_lines(const std::string& path, const std::string& signature,
                      const std::vector<std::string>& plans);

}  // namespace millrace
