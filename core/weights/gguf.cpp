#include "core/weights/gguf.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/weights/checkpoint_file.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t most_dimensions = 4;
constexpr std::int64_t longest_string = std::int64_t{64} << 20;
constexpr std::int64_t largest_header = std::int64_t{1} << 30;
constexpr std::int64_t largest_alignment = std::int64_t{1} << 20;

// Reads the header front to back through a window, checking every step against the file's size.
class HeaderReader {
 public:
  explicit HeaderReader(const CheckpointFile& file) : file_(file) {}

  std::int64_t position() const { return position_; }

  template <typename T>
  T number(const char* what) {
    T value;
    bytes(reinterpret_cast<std::byte*>(&value), sizeof value, what);
    return value;
  }

  std::string string(const char* what) {
    const auto length = number<std::uint64_t>(what);
    if (length > static_cast<std::uint64_t>(longest_string)) {
      fail("{} has {} bytes, the limit is {}", what, length, longest_string);
    }
    require(static_cast<std::int64_t>(length), what);
    std::string text(length, '\0');
    bytes(reinterpret_cast<std::byte*>(text.data()), text.size(), what);
    return text;
  }

  // A count of things that take at least `bytes_each` in the file.
  std::size_t count(std::int64_t bytes_each, const char* what) {
    const auto value = number<std::uint64_t>(what);
    const auto most = static_cast<std::uint64_t>((limit() - position_) / bytes_each);
    if (value > most) fail("{} is {}, more than the file can hold", what, value);
    return value;
  }

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw UserError("{}: GGUF header: {}", file_.path().string(),
                    fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  std::int64_t limit() const { return std::min(file_.bytes(), largest_header); }

  void require(std::int64_t wanted, const char* what) const {
    if (wanted <= limit() - position_) return;
    if (limit() < file_.bytes()) fail("larger than the limit of {} bytes", largest_header);
    fail("truncated in {} at byte {} of {}", what, position_, file_.bytes());
  }

  void bytes(std::byte* to, std::size_t wanted, const char* what) {
    require(static_cast<std::int64_t>(wanted), what);
    while (wanted > 0) {
      if (used_ == window_.size()) refill();
      const std::size_t part = std::min(wanted, window_.size() - used_);
      std::memcpy(to, window_.data() + used_, part);
      to += part;
      used_ += part;
      wanted -= part;
      position_ += static_cast<std::int64_t>(part);
    }
  }

  void refill() {
    constexpr std::int64_t window_bytes = std::int64_t{1} << 20;
    window_.resize(static_cast<std::size_t>(std::min(window_bytes, file_.bytes() - position_)));
    file_.read(position_, window_);
    used_ = 0;
  }

  const CheckpointFile& file_;
  std::vector<std::byte> window_;
  std::size_t used_ = 0;
  std::int64_t position_ = 0;
};

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

std::int64_t read_integer(HeaderReader& in, ValueType type) {
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

double read_real(HeaderReader& in, ValueType type) {
  return type == ValueType::f32 ? static_cast<double>(in.number<float>("a value"))
                                : in.number<double>("a value");
}

std::int64_t bytes_of(HeaderReader& in, ValueType type) {
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

GgufValue read_array(HeaderReader& in) {
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

GgufValue read_value(HeaderReader& in) {
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

StorageType storage_type(const HeaderReader& in, std::uint32_t type, const std::string& tensor) {
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

GgufTensor read_tensor(HeaderReader& in) {
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
void place_tensors(const HeaderReader& in, const CheckpointFile& file, std::int64_t data,
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
  static_assert(std::endian::native == std::endian::little, "GGUF is read as little-endian");
  const CheckpointFile file(path);
  HeaderReader in(file);
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
