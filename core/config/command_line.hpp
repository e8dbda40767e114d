// From a table of flags to values: the command line wins over MILLRACE_* variables, these win over
// the file that --config names, and all of them over the defaults.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/config/flag.hpp"

namespace millrace {

enum class SettingSource { built_in, file, environment, command_line };

// The value of one flag and who gave it. A repeated flag has one setting per value.
struct Setting {
  std::string flag;  // "max-num-seqs"
  std::string value;
  SettingSource source = SettingSource::built_in;

  friend bool operator==(const Setting&, const Setting&) = default;
};

// What was read before anything is converted: settings in the table's order (defaults included,
// flags that are unset left out), and remarks for the log, such as a MILLRACE_ variable that no
// flag has.
struct Settings {
  std::vector<Setting> values;
  std::vector<std::string> remarks;
  bool wants_help = false;
  bool wants_version = false;
};

// Reads the three sources. `arguments` is the command line without the program's name,
// `environment` holds "NAME=value". Throws UserError for an unknown flag (with the nearest known
// one), a flag without its value, a flag given twice, a stray argument, or a config file that
// cannot be read.
Settings read_settings(std::span<const Flag> flags, std::span<const std::string> arguments,
                       std::span<const std::string> environment);

// Calls every flag's `set`, in the table's order.
void apply_settings(std::span<const Flag> flags, std::span<const Setting> settings);

// Of `flags` those with these names, in the table's order: programs share flags so.
std::vector<Flag> flags_named(std::vector<Flag> flags,
                              std::initializer_list<std::string_view> names);

// The grouped text that --help prints, at most 100 columns wide. `has_variables`: the program's
// flags can be variables too.
std::string help_text(std::span<const Flag> flags, std::string_view usage,
                      bool has_variables = true);

// This process's environment as "NAME=value".
std::vector<std::string> process_environment();

// argv[1..] as strings.
std::vector<std::string> program_arguments(int argc, char** argv);

}  // namespace millrace
