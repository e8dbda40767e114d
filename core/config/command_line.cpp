// Boost.ProgramOptions tokenizes the command line; every option is text to it, so that conversion,
// ranges and messages are ours (flag_value.cpp).
#include "core/config/command_line.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <map>

#include "core/config/config_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace po = boost::program_options;

const Flag* find_flag(std::span<const Flag> flags, std::string_view name) {
  const auto found = std::ranges::find(flags, name, &Flag::name);
  return found == flags.end() ? nullptr : &*found;
}

std::string variable_of(std::string_view flag) {
  std::string variable = "MILLRACE_";
  for (const char c : flag) {
    variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return variable;
}

// Levenshtein distance, for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// "did you mean --NAME?" for a name without its dashes, or where to look.
std::string suggestion(std::span<const Flag> flags, std::string_view unknown) {
  if (const auto found = std::ranges::find(flags, unknown, &Flag::shorthand);
      found != flags.end() && !unknown.empty()) {
    return fmt::format("did you mean --{} (-{})?", found->name, unknown);
  }
  const auto nearest = std::ranges::min_element(
      flags, {}, [&](const Flag& flag) { return edit_distance(flag.name, unknown); });
  const std::size_t near =
      std::min(std::max<std::size_t>(2, unknown.size() / 3), unknown.size() / 2);
  if (nearest == flags.end() || edit_distance(nearest->name, unknown) > near) {
    return "see --help";
  }
  return fmt::format("did you mean --{}?", nearest->name);
}

po::options_description describe(std::span<const Flag> flags) {
  po::options_description options;
  for (const Flag& flag : flags) {
    options.add_options()(flag.name.c_str(), po::value<std::vector<std::string>>());
  }
  return options;
}

// "-tp" and "-tp=2" become the long name, since Boost's short options have one letter, and a bare
// toggle becomes "--toggle=true", since Boost would let it take the next argument.
std::vector<std::string> spell_out(std::span<const Flag> flags,
                                   std::span<const std::string> arguments) {
  std::vector<std::string> expanded(arguments.begin(), arguments.end());
  for (std::string& argument : expanded) {
    if (argument == "-h") {
      argument = "--help";
    }
    const std::size_t end = std::min(argument.find('='), argument.size());
    for (const Flag& flag : flags) {
      if (!flag.shorthand.empty() && argument.substr(0, end) == "-" + flag.shorthand) {
        argument = "--" + flag.name + argument.substr(end);
      }
      if (flag.kind == Flag::Kind::toggle && argument == "--" + flag.name) {
        argument += "=true";
      }
    }
  }
  return expanded;
}

using Values = std::map<std::string, std::vector<std::string>, std::less<>>;

Values collect(const po::parsed_options& parsed, std::span<const Flag> flags) {
  Values values;
  for (const po::option& option : parsed.options) {
    if (option.position_key >= 0 || option.string_key.empty()) {
      const std::string argument = option.value.empty() ? "" : option.value.front();
      if (argument.starts_with('-')) {  // "-model": Boost takes it for a value
        const std::string name = argument.substr(1, argument.find('=') - 1);
        throw UserError("unknown flag -{}; {}", name, suggestion(flags, name));
      }
      throw UserError("unexpected argument '{}': every value follows its --flag", argument);
    }
    const Flag* flag = find_flag(flags, option.string_key);
    auto& given = values[option.string_key];
    if (flag != nullptr && flag->kind != Flag::Kind::repeated && !given.empty()) {
      throw UserError("--{} is given twice", option.string_key);
    }
    if (option.value.empty()) {
      given.emplace_back();  // --help and --version
    } else {
      given.insert(given.end(), option.value.begin(), option.value.end());
    }
  }
  return values;
}

// Runs a Boost parser and turns its exceptions into one-line UserErrors.
template <typename Parse>
Values parse_with_boost(Parse parse, std::span<const Flag> flags) {
  try {
    return collect(parse(), flags);
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    name.resize(std::min(name.find('='), name.size()));
    throw UserError("unknown flag --{}; {}", name, suggestion(flags, name));
  } catch (const po::invalid_command_line_syntax& error) {
    const bool is_given_one = error.kind() == po::invalid_command_line_syntax::extra_parameter;
    throw UserError("{} {}", error.get_option_name(),
                    is_given_one ? "takes no value" : "needs a value");
  } catch (const po::error& error) {
    throw UserError("{}", error.what());
  }
}

Values read_file(std::span<const Flag> flags, const std::string& path) {
  Values values;
  for (ConfigLine& line : read_config_file(path)) {
    const Flag* flag = find_flag(flags, line.name);
    if (flag == nullptr) {
      throw UserError("{}unknown flag --{}; {}", line.place, line.name,
                      suggestion(flags, line.name));
    }
    auto& given = values[line.name];
    if (flag->kind != Flag::Kind::repeated && !given.empty()) {
      throw UserError("{}--{} is given twice", line.place, line.name);
    }
    given.push_back(std::move(line.value));
  }
  return values;
}

}  // namespace

Settings read_settings(std::span<const Flag> flags, std::span<const std::string> arguments,
                       std::span<const std::string> environment) {
  Settings settings;

  po::options_description options = describe(flags);
  options.add_options()("help", "")("version", "")("config", po::value<std::vector<std::string>>());
  Values command_line = parse_with_boost(
      [&] {
        namespace style = po::command_line_style;
        return po::command_line_parser(spell_out(flags, arguments))
            .options(options)
            .style(style::allow_long | style::long_allow_next | style::long_allow_adjacent)
            .run();
      },
      flags);
  settings.wants_help = command_line.contains("help");
  settings.wants_version = command_line.contains("version");

  Values variables;
  std::string config_path;
  for (const std::string& entry : environment) {
    const std::string variable = entry.substr(0, entry.find('='));
    if (!variable.starts_with("MILLRACE_") || variable.size() == entry.size()) {
      continue;
    }
    const auto flag = std::ranges::find_if(
        flags, [&](const Flag& candidate) { return variable_of(candidate.name) == variable; });
    const std::string value = entry.substr(variable.size() + 1);
    if (flag != flags.end()) {
      variables[flag->name] = {value};
    } else if (variable == "MILLRACE_CONFIG") {
      config_path = value;
    } else if (variable != "MILLRACE_CACHE") {  // where matmul plans are kept
      settings.remarks.push_back(fmt::format("{} is set but names no flag", variable));
    }
  }

  if (const auto found = command_line.find("config"); found != command_line.end()) {
    config_path = found->second.front();
  }
  const Values file = config_path.empty() ? Values{} : read_file(flags, config_path);

  for (const Flag& flag : flags) {
    const auto take = [&](const Values& values, SettingSource source) {
      const auto found = values.find(flag.name);
      if (found == values.end()) {
        return false;
      }
      for (const std::string& value : found->second) {
        settings.values.push_back({flag.name, value, source});
      }
      return true;
    };
    if (!take(command_line, SettingSource::command_line) &&
        !take(variables, SettingSource::environment) && !take(file, SettingSource::file) &&
        !flag.initial.empty()) {
      settings.values.push_back({flag.name, flag.initial, SettingSource::built_in});
    }
  }
  return settings;
}

void apply_settings(std::span<const Flag> flags, std::span<const Setting> settings) {
  for (const Setting& setting : settings) {
    const Flag* flag = find_flag(flags, setting.flag);
    if (flag == nullptr) {
      throw std::logic_error("no flag is called " + setting.flag);
    }
    std::string origin = "--" + setting.flag;
    if (setting.source == SettingSource::environment) {
      origin += " (from " + variable_of(setting.flag) + ")";
    } else if (setting.source == SettingSource::file) {
      origin += " (from the config file)";
    }
    flag->set(FlagValue(std::move(origin), setting.value));
  }
}

std::vector<Flag> flags_named(std::vector<Flag> flags,
                              std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (find_flag(flags, name) == nullptr) {
      throw std::logic_error(fmt::format("no flag is called {}", name));
    }
  }
  std::erase_if(flags, [&](const Flag& flag) {
    return std::ranges::find(names, std::string_view(flag.name)) == names.end();
  });
  return flags;
}

std::vector<std::string> process_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    entries.emplace_back(*entry);
  }
  return entries;
}

std::vector<std::string> program_arguments(int argc, char** argv) {
  return {argv + std::min(argc, 1), argv + argc};
}

}  // namespace millrace
