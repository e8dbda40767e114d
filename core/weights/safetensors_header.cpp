#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "core/weights/printable.hpp"
#include "core/weights/safetensors.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t length_bytes = 8;
constexpr std::int64_t largest_header = 100'000'000;  // as the reference implementation
constexpr std::size_t most_dimensions = 8;

template <typename... Args>
[[noreturn]] void fail(const CheckpointFile& file, fmt::format_string<Args...> format,
                       Args&&... args) {
  throw UserError("{}: safetensors header: {}", file.path().string(),
                  fmt::format(format, std::forward<Args>(args)...));
}

struct Element {
  std::string_view name;
  std::int64_t bits;
};

// Every element type of the format; weights can be F32, F16, BF16 and F8_E4M3.
constexpr std::array<Element, 19> elements{{
    {"F32", 32},    {"F16", 16},    {"BF16", 16}, {"F8_E4M3", 8}, {"F64", 64},
    {"I64", 64},    {"I32", 32},    {"I16", 16},  {"I8", 8},      {"U64", 64},
    {"U32", 32},    {"U16", 16},    {"U8", 8},    {"BOOL", 8},    {"C64", 64},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F4", 4},    {"F6_E2M3", 6},
}};

std::int64_t read_length(const CheckpointFile& file) {
  if (file.bytes() < length_bytes) fail(file, "truncated: the file has {} bytes", file.bytes());
  std::uint64_t length = 0;
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > static_cast<std::uint64_t>(largest_header)) {
    fail(file, "{} bytes, the limit is {}", length, largest_header);
  }
  if (static_cast<std::int64_t>(length) > file.bytes() - length_bytes) {
    fail(file, "truncated: {} bytes, the file has {}", length, file.bytes());
  }
  return static_cast<std::int64_t>(length);
}

// JSON keeps the last of equal keys; here they are an error.
Json parse(const CheckpointFile& file, const std::string& text) {
  constexpr int deepest = 8;
  std::set<std::string> names;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > deepest) fail(file, "nested too deeply");
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(value.get<std::string>()).second) {
      fail(file, "tensor '{}' appears twice", printable(value.get<std::string>()));
    }
    return true;
  };
  Json header = Json::parse(text, check, /*allow_exceptions=*/false);
  if (!header.is_object()) fail(file, "not a JSON object");
  return header;
}

bool is_count(const Json& value) {
  return value.is_number_unsigned() &&
         value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
}

// The tensor, with its offset from the start of the data, and its end.
std::pair<SafetensorsTensor, std::int64_t> read_tensor(const CheckpointFile& file,
                                                       const std::string& name, const Json& entry) {
  const std::string shown = printable(name);
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
    fail(file, "tensor '{}' needs dtype, shape and data_offsets", shown);
  }
  SafetensorsTensor tensor;
  tensor.name = name;
  tensor.dtype = entry["dtype"].get<std::string>();
  const auto known = std::find_if(elements.begin(), elements.end(),
                                  [&](const Element& e) { return e.name == tensor.dtype; });
  if (known == elements.end()) {
    fail(file, "tensor '{}' has unknown dtype '{}'", shown, printable(tensor.dtype));
  }
  constexpr std::array<StorageType, 4> types{StorageType::f32, StorageType::f16, StorageType::bf16,
                                             StorageType::f8_e4m3};
  const auto index = static_cast<std::size_t>(known - elements.begin());
  tensor.is_supported = index < types.size();
  if (tensor.is_supported) tensor.type = types[index];

  if (entry["shape"].size() > most_dimensions) {
    fail(file, "tensor '{}' has {} dimensions", shown, entry["shape"].size());
  }
  std::int64_t bits = known->bits;
  for (const Json& size : entry["shape"]) {
    if (!is_count(size) || __builtin_mul_overflow(bits, size.get<std::int64_t>(), &bits)) {
      fail(file, "tensor '{}' has an impossible size {}", shown, printable(size.dump()));
    }
    tensor.shape.push_back(size.get<std::int64_t>());
  }
  const Json& offsets = entry["data_offsets"];
  if (!is_count(offsets[0]) || !is_count(offsets[1])) {
    fail(file, "tensor '{}' has impossible data_offsets {}", shown, printable(offsets.dump()));
  }
  tensor.offset = offsets[0].get<std::int64_t>();
  const auto end = offsets[1].get<std::int64_t>();
  if (bits % 8 != 0 || end < tensor.offset || end - tensor.offset != bits / 8) {
    fail(file, "tensor '{}' has data_offsets {}, its shape needs {} bits", shown,
         printable(offsets.dump()), bits);
  }
  return {std::move(tensor), end};
}

}  // namespace

std::map<std::string, SafetensorsTensor, std::less<>> read_safetensors_header(
    const CheckpointFile& file) {
  const std::int64_t length = read_length(file);
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(length_bytes, std::as_writable_bytes(std::span(text)));
  const Json header = parse(file, text);

  const std::int64_t data = length_bytes + length;
  const std::int64_t data_bytes = file.bytes() - data;
  std::map<std::string, SafetensorsTensor, std::less<>> tensors;
  std::vector<std::pair<std::int64_t, std::int64_t>> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    auto [tensor, end] = read_tensor(file, name, entry);
    if (end > data_bytes) {
      throw UserError("{}: truncated: tensor '{}' ends at byte {}, the file has {} bytes",
                      file.path().string(), printable(name), data + std::min(end, INT64_MAX - data),
                      file.bytes());
    }
    if (end > tensor.offset) extents.emplace_back(tensor.offset, end);
    tensor.offset += data;
    tensors.emplace(name, std::move(tensor));
  }
  std::sort(extents.begin(), extents.end());
  for (std::size_t i = 1; i < extents.size(); ++i) {
    if (extents[i - 1].second > extents[i].first) {
      fail(file, "two tensors share the bytes from {}", extents[i].first);
    }
  }
  return tensors;
}

}  // namespace millrace
