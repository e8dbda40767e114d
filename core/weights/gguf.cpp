#include "core/weights/gguf.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/weights/checkpoint_file.hpp"
#include "core/weights/gguf_reader.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t most_dimensions = 4;
constexpr std::int64_t largest_alignment = std::int64_t{1} << 20;

enum class ValueType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

std::int64_t read_integer(GgufReader& in, ValueType type) {
  switch (type) {
    case ValueType::u8:
    case ValueType::boolean:
      return in.number<std::uint8_t>("a value");
    case ValueType::i8:
      return in.number<std::int8_t>("a value");
    case ValueType::u16:
      return in.number<std::uint16_t>("a value");
    case ValueType::i16:
      return in.number<std::int16_t>("a value");
    case ValueType::u32:
      return in.number<std::uint32_t>("a value");
    case ValueType::i32:
      return in.number<std::int32_t>("a value");
    case ValueType::i64:
      return in.number<std::int64_t>("a value");
    case ValueType::u64: {
      const auto value = in.number<std::uint64_t>("a value");
      if (value > static_cast<std::uint64_t>(INT64_MAX))
        in.fail("the value {} is too large", value);
      return static_cast<std::int64_t>(value);
    }
    default:
      throw std::logic_error("not an integer type");
  }
}

double read_real(GgufReader& in, ValueType type) {
  return type == ValueType::f32 ? static_cast<double>(in.number<float>("a value"))
                                : in.number<double>("a value");
}

std::int64_t bytes_of(GgufReader& in, ValueType type) {
  switch (type) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean:
      return 1;
    case ValueType::u16:
    case ValueType::i16:
      return 2;
    case ValueType::u32:
    case ValueType::i32:
    case ValueType::f32:
      return 4;
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64:
    case ValueType::string:  // its length
      return 8;
    case ValueType::array:
      in.fail("arrays of arrays are not supported");
  }
  in.fail("unknown value type {}", static_cast<std::uint32_t>(type));
}

GgufValue read_array(GgufReader& in) {
  const auto type = static_cast<ValueType>(in.number<std::uint32_t>("an array's type"));
  const std::size_t count = in.count(bytes_of(in, type), "an array's length");
  const auto fill = [&](auto values, auto&& read) {
    values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) values.push_back(read());
    return values;
  };
  if (type == ValueType::string) {
    return fill(std::vector<std::string>(), [&] { return in.string("a string"); });
  }
  if (type == ValueType::f32 || type == ValueType::f64) {
    return fill(std::vector<double>(), [&] { return read_real(in, type); });
  }
  return fill(std::vector<std::int64_t>(), [&] { return read_integer(in, type); });
}

GgufValue read_value(GgufReader& in) {
  const auto type = static_cast<ValueType>(in.number<std::uint32_t>("a value's type"));
  switch (type) {
    case ValueType::array:
      return read_array(in);
    case ValueType::string:
      return in.string("a string");
    case ValueType::f32:
    case ValueType::f64:
      return read_real(in, type);
    case ValueType::boolean:
      return read_integer(in, type) != 0;
    default:
      bytes_of(in, type);  // throws for an unknown type
      return read_integer(in, type);
  }
}

StorageType storage_type(const GgufReader& in, std::uint32_t type, const std::string& tensor) {
  switch (type) {
    case 0:
      return StorageType::f32;
    case 1:
      return StorageType::f16;
    case 2:
      return StorageType::q4_0;
    case 3:
      return StorageType::q4_1;
    case 6:
      return StorageType::q5_0;
    case 7:
      return StorageType::q5_1;
    case 8:
      return StorageType::q8_0;
    case 12:
      return StorageType::q4_k;
    case 13:
      return StorageType::q5_k;
    case 14:
      return StorageType::q6_k;
    case 30:
      return StorageType::bf16;
    default:
      break;
  }
  // ggml's numbers of the others, for the message.
  constexpr std::pair<std::uint32_t, const char*> others[] = {
      {9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},
      {39, "MXFP4"},
  };
  for (const auto& [number, word] : others) {
    if (number == type) {
      in.fail(
          "tensor '{}' is stored as {}, which is not supported (F32, F16, BF16, Q4_0, Q4_1, "
          "Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are)",
          printable(tensor), word);
    }
  }
  in.fail("tensor '{}' is stored as unknown type {}", printable(tensor), type);
}

GgufTensor read_tensor(GgufReader& in) {
  GgufTensor tensor;
  tensor.name = in.string("a tensor's name");
  const auto dimensions = in.number<std::uint32_t>("a tensor's dimensions");
  if (dimensions < 1 || dimensions > most_dimensions) {
    in.fail("tensor '{}' has {} dimensions", printable(tensor.name), dimensions);
  }
  tensor.shape.resize(dimensions);
  std::int64_t elements = 1;
  for (std::size_t d = dimensions; d-- > 0;) {
    const auto size = in.number<std::uint64_t>("a tensor's shape");
    if (size < 1 || size > static_cast<std::uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(elements, static_cast<std::int64_t>(size), &elements)) {
      in.fail("tensor '{}' has an impossible size {}", printable(tensor.name), size);
    }
    tensor.shape[d] = static_cast<std::int64_t>(size);
  }
  tensor.type = storage_type(in, in.number<std::uint32_t>("a tensor's type"), tensor.name);
  const std::int64_t block = block_elements(tensor.type);
  if (tensor.shape.back() % block != 0) {
    in.fail("tensor '{}' has rows of {} elements, {} stores blocks of {}", printable(tensor.name),
            tensor.shape.back(), name(tensor.type), block);
  }
  if (__builtin_mul_overflow(elements / block, block_bytes(tensor.type), &tensor.bytes)) {
    in.fail("tensor '{}' has {} elements", printable(tensor.name), elements);
  }
  const auto offset = in.number<std::uint64_t>("a tensor's offset");
  if (offset > static_cast<std::uint64_t>(INT64_MAX)) {
    in.fail("tensor '{}' lies at an impossible offset {}", printable(tensor.name), offset);
  }
  tensor.offset = static_cast<std::int64_t>(offset);
  return tensor;
}

// Offsets from the start of the data become offsets in the file. No two tensors may share bytes.
void place_tensors(const GgufReader& in, const CheckpointFile& file, std::int64_t data,
                   std::int64_t alignment, GgufHeader& header) {
  std::vector<const GgufTensor*> by_offset;
  for (auto& [key, tensor] : header.tensors) {
    std::int64_t end = 0;
    if (tensor.offset % alignment != 0) {
      in.fail("tensor '{}' at offset {} is not aligned to {}", printable(key), tensor.offset,
              alignment);
    }
    if (__builtin_add_overflow(tensor.offset, data, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end) || end > file.bytes()) {
      throw UserError("{}: truncated: tensor '{}' has {} bytes at {}, the file has {} bytes",
                      file.path().string(), printable(key), tensor.bytes, tensor.offset,
                      file.bytes());
    }
    by_offset.push_back(&tensor);
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    if (by_offset[i - 1]->offset + by_offset[i - 1]->bytes > by_offset[i]->offset) {
      in.fail("tensors '{}' and '{}' overlap", printable(by_offset[i - 1]->name),
              printable(by_offset[i]->name));
    }
  }
}

}  // namespace

GgufHeader read_gguf_header(const std::filesystem::path& path) {
  return read_gguf_header(CheckpointFile(path));
}

GgufHeader read_gguf_header(const CheckpointFile& file) {
  static_assert(std::endian::native == std::endian::little, "GGUF is read as little-endian");
  const std::filesystem::path& path = file.path();
  GgufReader in(file);
  GgufHeader header;
  header.path = path;
  constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
  if (file.bytes() < 4 || in.number<std::uint32_t>("the magic") != magic) {
    throw UserError("{}: not a GGUF file", path.string());
  }
  header.version = in.number<std::uint32_t>("the version");
  if ((header.version & 0xffffU) == 0) in.fail("big-endian files are not supported");
  if (header.version != 2 && header.version != 3) {
    in.fail("version {} is not supported (2 and 3 are)", header.version);
  }
  // A tensor takes at least a name's length, dimensions, one size, a type and an offset; a key at
  // least its length, a type and one byte.
  const std::size_t tensors = in.count(8 + 4 + 8 + 4 + 8, "the tensor count");
  const std::size_t keys = in.count(8 + 4 + 1, "the metadata count");
  for (std::size_t i = 0; i < keys; ++i) {
    std::string key = in.string("a metadata key");
    GgufValue value = read_value(in);
    const auto [at, inserted] = header.metadata.emplace(std::move(key), std::move(value));
    if (!inserted) in.fail("metadata key '{}' appears twice", printable(at->first));
  }
  for (std::size_t i = 0; i < tensors; ++i) {
    GgufTensor tensor = read_tensor(in);
    std::string name = tensor.name;
    const auto [at, inserted] = header.tensors.emplace(std::move(name), std::move(tensor));
    if (!inserted) in.fail("tensor '{}' appears twice", printable(at->first));
  }
  const std::int64_t alignment = header.find_integer("general.alignment").value_or(32);
  if (alignment < 1 || alignment > largest_alignment ||
      !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    in.fail("general.alignment is {}", alignment);
  }
  const std::int64_t data = (in.position() + alignment - 1) / alignment * alignment;
  place_tensors(in, file, data, alignment, header);
  return header;
}

}  // namespace millrace
