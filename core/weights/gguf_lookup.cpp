// Metadata by key and type.
#include "core/weights/gguf.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// The value as T, nullptr when absent.
template <typename T>
const T* find_value(const GgufHeader& header, std::string_view key, const char* kind) {
  const auto at = header.metadata.find(key);
  if (at == header.metadata.end()) return nullptr;
  if (const T* value = std::get_if<T>(&at->second)) return value;
  throw UserError("{}: metadata key '{}' is not {}", header.path.string(), printable(key), kind);
}

}  // namespace

const std::string* GgufHeader::find_string(std::string_view key) const {
  return find_value<std::string>(*this, key, "a string");
}

const std::vector<std::string>* GgufHeader::find_strings(std::string_view key) const {
  return find_value<std::vector<std::string>>(*this, key, "a list of strings");
}

const std::vector<std::int64_t>* GgufHeader::find_integers(std::string_view key) const {
  return find_value<std::vector<std::int64_t>>(*this, key, "a list of integers");
}

const std::vector<double>* GgufHeader::find_numbers(std::string_view key) const {
  return find_value<std::vector<double>>(*this, key, "a list of numbers");
}

std::optional<std::int64_t> GgufHeader::find_integer(std::string_view key) const {
  const auto* value = find_value<std::int64_t>(*this, key, "an integer");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<double> GgufHeader::find_number(std::string_view key) const {
  const auto at = metadata.find(key);
  if (at != metadata.end()) {
    if (const auto* value = std::get_if<std::int64_t>(&at->second)) {
      return static_cast<double>(*value);
    }
  }
  const auto* value = find_value<double>(*this, key, "a number");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<bool> GgufHeader::find_bool(std::string_view key) const {
  const auto* value = find_value<bool>(*this, key, "a bool");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

}  // namespace millrace
