// GGUF files (versions 2 and 3, little-endian): metadata, and tensors that are dequantized as they
// are read. Everything in the file is untrusted: counts, lengths, offsets and sizes are checked
// against the file's size before they are used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/weights/checkpoint_file.hpp"
#include "core/weights/storage_type.hpp"

namespace millrace {

// Integers of every width arrive as int64 (uint64 above its range is an error), f32 and f64 as
// double; arrays of bool as int64.
using GgufValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  StorageType type = StorageType::f32;
  std::vector<std::int64_t> shape;  // outermost first (GGUF stores innermost first)
  std::int64_t offset = 0;          // of the data, from the start of the file
  std::int64_t bytes = 0;
};

struct GgufHeader {
  std::filesystem::path path;
  std::uint32_t version = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;

  // nullptr when the key is absent; throws UserError when it holds another type.
  const std::string* find_string(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;
  const std::vector<std::int64_t>* find_integers(std::string_view key) const;
  const std::vector<double>* find_numbers(std::string_view key) const;
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;  // integers too
  std::optional<bool> find_bool(std::string_view key) const;
};

// Reads and validates the header; the tensors' data is not read. Throws UserError naming the file.
GgufHeader read_gguf_header(const std::filesystem::path& path);
GgufHeader read_gguf_header(const CheckpointFile& file);

}  // namespace millrace
