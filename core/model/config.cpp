#include "core/model/config.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

using Json = nlohmann::json;

Config::Config(std::string source, const Json& values)
    : source_(std::move(source)), values_(std::make_shared<const Json>(values)) {}

Config Config::read(const std::filesystem::path& path) {
  constexpr std::uintmax_t largest = std::uintmax_t{16} << 20;
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (!file || error) throw UserError("{}: cannot be read", path.string());
  if (bytes > largest) {
    throw UserError("{}: {} bytes, the limit is {}", path.string(), bytes, largest);
  }
  std::ostringstream text;
  text << file.rdbuf();
  // No config nests deeply; a hostile one would exhaust the stack of whoever walks the values.
  const auto is_shallow = [&](int depth, Json::parse_event_t, Json&) {
    constexpr int deepest = 64;
    if (depth > deepest) throw UserError("{}: nested too deeply", path.string());
    return true;
  };
  const Json values = Json::parse(text.str(), is_shallow, /*allow_exceptions=*/false);
  if (!values.is_object()) throw UserError("{}: not a JSON object", path.string());
  return Config(path.string(), values);
}

const Json* Config::find(const char* field) const {
  const auto at = values_->find(field);
  return at == values_->end() || at->is_null() ? nullptr : &*at;
}

bool Config::has(const char* field) const { return find(field) != nullptr; }

bool Config::states(const char* field) const { return values_->contains(field); }

void Config::fail(const char* field, std::string_view why) const {
  const Json* value = find(field);
  if (value == nullptr) throw UserError("{}: {}{} is missing: {}", source_, path_, field, why);
  const std::string text =
      value->dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  throw UserError("{}: {}{} is {}: {}", source_, path_, field, printable(text), why);
}

std::int64_t Config::size(const char* field, std::int64_t limit) const {
  const std::optional<double> value = find_number(field);
  if (!value || *value < 1 || *value > static_cast<double>(limit) || *value != std::floor(*value)) {
    fail(field, fmt::format("an integer in [1, {}] is needed", limit));
  }
  return static_cast<std::int64_t>(*value);
}

std::size_t Config::fields() const { return values_->size(); }

std::int64_t Config::size_or(const char* field, std::int64_t limit, std::int64_t otherwise) const {
  return has(field) ? size(field, limit) : otherwise;
}

std::optional<double> Config::find_number(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(field, "a number is needed");
  return value->get<double>();
}

double Config::number(const char* field) const {
  const std::optional<double> value = find_number(field);
  if (!value) fail(field, "a number is needed");
  return *value;
}

double Config::number_or(const char* field, double otherwise) const {
  return find_number(field).value_or(otherwise);
}

bool Config::flag_or(const char* field, bool otherwise) const {
  const Json* value = find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) fail(field, "true or false is needed");
  return value->get<bool>();
}

std::string Config::text_or(const char* field, const std::string& otherwise) const {
  const Json* value = find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) fail(field, "a string is needed");
  return value->get<std::string>();
}

std::vector<std::int32_t> Config::token_ids(const char* field) const {
  const Json* value = find(field);
  std::vector<std::int32_t> ids;
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
      fail(field, "a token id or a list of them is needed");
    }
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

std::vector<std::string> Config::texts(const char* field) const {
  const Json* value = find(field);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  if (!value->is_array()) fail(field, "a list of strings is needed");
  for (const Json& text : *value) {
    if (!text.is_string()) fail(field, "a list of strings is needed");
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::optional<Config> Config::section(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(field, "an object is needed");
  Config inner(source_, *value);
  inner.path_ = path_ + field + ".";
  return inner;
}

}  // namespace millrace
