#include "core/config/config_file.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::string_view blanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::string_view without_comment(std::string_view text) {
  for (std::size_t at = text.find('#'); at < text.size(); at = text.find('#', at + 1)) {
    if (at == 0 || blanks.find(text[at - 1]) < blanks.size()) return text.substr(0, at);
  }
  return text;
}

// Where a string that begins with a quote has its closing one; npos: nowhere.
std::size_t closing_quote(std::string_view text) {
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (text[at] == '"') return at;
    if (text[at] == '\\') ++at;
  }
  return std::string_view::npos;
}

std::string unquoted(const std::string& place, std::string_view text) {
  const std::size_t end = closing_quote(text);
  if (end < text.size() && trimmed(without_comment(text.substr(end + 1))).empty()) {
    const auto value = nlohmann::json::parse(text.substr(0, end + 1), nullptr, false);
    if (value.is_string()) return value.get<std::string>();
  }
  throw UserError("{}text in double quotes is a JSON string, not {}", place, text);
}

}  // namespace

std::vector<ConfigLine> read_config_file(const std::string& path) {
  std::ifstream file(path);
  std::error_code error;
  if (!file || std::filesystem::is_directory(path, error)) {
    throw UserError("--config: cannot open '{}'", path);
  }
  std::vector<ConfigLine> lines;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    if (trimmed(without_comment(text)).empty()) continue;
    ConfigLine line{fmt::format("{}, line {}: ", path, number), {}, {}};
    const std::size_t equals = text.find('=');
    line.name = trimmed(std::string_view(text).substr(0, equals));
    if (equals == std::string::npos || line.name.empty() || line.name.starts_with('-') ||
        line.name.find_first_of(" \t#") < line.name.size()) {
      throw UserError("{}a line is `name = value`, not '{}'", line.place, trimmed(text));
    }
    // From the `=` on, so that a comment is known by the space before it.
    const std::string_view rest = std::string_view(text).substr(equals + 1);
    const std::string_view value = trimmed(rest);
    line.value =
        value.starts_with('"') ? unquoted(line.place, value) : trimmed(without_comment(rest));
    if (line.value.empty() && !value.starts_with('"')) {
      throw UserError("{}{} has no value; text with a `#` stands in double quotes", line.place,
                      line.name);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace millrace
