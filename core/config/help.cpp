// --help, written from the same table that is parsed.
#include <fmt/format.h>

#include "core/config/command_line.hpp"

namespace millrace {
namespace {

constexpr std::size_t kHelpColumn = 34;
constexpr std::size_t kWidth = 100;

std::string left_column(const Flag& flag) {
  std::string text = "  --" + flag.name;
  if (!flag.shorthand.empty()) {
    text += ", -" + flag.shorthand;
  }
  if (!flag.placeholder.empty()) {
    text += " " + flag.placeholder;
  }
  return text;
}

// `text` in words from kHelpColumn on, broken before kWidth.
void append_wrapped(std::string& out, std::string_view text) {
  std::size_t column = kHelpColumn;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find(' '), text.size());
    if (column > kHelpColumn) {
      const bool fits = column + 1 + length <= kWidth;
      out += fits ? " " : '\n' + std::string(kHelpColumn, ' ');
      column = fits ? column + 1 : kHelpColumn;
    }
    out += text.substr(0, length);
    column += length;
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  out += '\n';
}

}  // namespace

std::string help_text(std::span<const Flag> flags, std::string_view usage, bool has_variables) {
  std::string out(usage);
  std::string_view group;
  for (const Flag& flag : flags) {
    if (flag.group != group) {
      group = flag.group;
      out += fmt::format("\n{}\n", group);
    }
    std::string left = left_column(flag);
    out += left;
    if (left.size() + 2 > kHelpColumn) {
      out += '\n' + std::string(kHelpColumn, ' ');
    } else {
      out += std::string(kHelpColumn - left.size(), ' ');
    }
    std::string help = flag.help;
    if (!flag.initial.empty() && flag.kind != Flag::Kind::toggle) {
      help += fmt::format(" (default: {})", flag.initial);
    }
    append_wrapped(out, help);
  }
  out += fmt::format("\n{}\n", "General");
  out += "  --config FILE                   ";
  append_wrapped(out,
                 "Read flags from FILE, one `name = value` a line. ` #` starts a comment; text in "
                 "double quotes is a JSON string.");
  out += "  --help, -h                      Print this text.\n";
  out += "  --version                       Print the version.\n";
  if (has_variables) {
    out += "\nEvery flag can also be a variable: --max-num-seqs is MILLRACE_MAX_NUM_SEQS.\n";
    out += "The command line wins over variables, variables over the config file.\n";
  }
  return out;
}

}  // namespace millrace
