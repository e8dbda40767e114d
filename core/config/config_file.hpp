// The file that --config names. A line is `name = value`, or empty. A `#` that begins a line or
// stands behind a space starts a comment. A value in double quotes is a JSON string, for text with
// a `#`, spaces at its ends or line ends.
#pragma once

#include <string>
#include <vector>

namespace millrace {

struct ConfigLine {
  std::string place;  // "run.cfg, line 3: ", for what is wrong with it
  std::string name;
  std::string value;
};

// Throws UserError naming the file, the line and what is there.
std::vector<ConfigLine> read_config_file(const std::string& path);

}  // namespace millrace
