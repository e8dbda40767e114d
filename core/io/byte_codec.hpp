// Plain values to little-endian bytes and back, for frames on disk. The reader never trusts a
// length: what does not fit the bytes that are there is a CodecError.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace millrace {

static_assert(std::endian::native == std::endian::little, "frames on disk are little-endian");

// Bytes that do not decode: damage, or a bug.
class CodecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ByteWriter {
 public:
  // Appends to `out`, which must outlive the writer.
  explicit ByteWriter(std::vector<std::byte>& out) : out_(out) {}

  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void value(T value) {
    const auto at = out_.size();
    out_.resize(at + sizeof value);
    std::memcpy(out_.data() + at, &value, sizeof value);
  }
  // LEB128: 7 bits per byte, low ones first.
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      out_.push_back(static_cast<std::byte>(value | 0x80));
    }
    out_.push_back(static_cast<std::byte>(value));
  }
  void text(std::string_view text) {
    varint(text.size());
    const auto bytes = std::as_bytes(std::span(text));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  // Token ids: not negative, mostly small.
  void token_ids(std::span<const std::int32_t> ids) {
    varint(ids.size());
    for (const std::int32_t id : ids) {
      varint(static_cast<std::uint32_t>(id));
    }
  }

 private:
  std::vector<std::byte>& out_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T> T value() {
    T value{};
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = this->value<std::uint8_t>();
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    throw CodecError("a number is too long");
  }
  std::string text() {
    const auto bytes = take(count(1));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::vector<std::int32_t> token_ids() {
    std::vector<std::int32_t> ids(count(1));
    for (std::int32_t& id : ids) {
      id = static_cast<std::int32_t>(static_cast<std::uint32_t>(varint()));
    }
    return ids;
  }
  // The length of a list whose elements take at least `least_bytes` each.
  std::size_t count(std::size_t least_bytes) {
    const std::uint64_t length = varint();
    if (length > bytes_.size() / least_bytes) {
      throw CodecError("a length goes beyond the end");
    }
    return static_cast<std::size_t>(length);
  }
  // Throws CodecError unless every byte was used.
  void expect_end() const {
    if (!bytes_.empty()) {
      throw CodecError("bytes are left over");
    }
  }

 private:
  std::span<const std::byte> take(std::size_t count) {
    if (count > bytes_.size()) {
      throw CodecError("cut short");
    }
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

  std::span<const std::byte> bytes_;
};

}  // namespace millrace
