// Checkpoints written byte by byte, and packed weights read element by element.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/weights/checkpoint.hpp"
#include "kernels/linear.hpp"
#include "test/temporary_folder.hpp"

namespace millrace::test {

template <typename T>
std::string bytes_of(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes;
  for (const T& value : values) bytes += bytes_of(value);
  return bytes;
}

inline std::string safetensors(const std::string& header, const std::string& data) {
  return bytes_of(static_cast<std::uint64_t>(header.size())) + header + data;
}

// A GGUF file, piece by piece.
class GgufBytes {
 public:
  explicit GgufBytes(std::uint32_t version = 3) : version_(version) {}

  GgufBytes& key(const std::string& name, std::uint32_t type, const std::string& value) {
    metadata_ += string(name) + bytes_of(type) + value;
    ++keys_;
    return *this;
  }
  GgufBytes& text(const std::string& name, const std::string& value) {
    return key(name, 8, string(value));
  }
  GgufBytes& number(const std::string& name, std::uint32_t value) {
    return key(name, 4, bytes_of(value));
  }
  // `sizes` innermost first, as the file has them.
  GgufBytes& tensor(const std::string& name, const std::vector<std::uint64_t>& sizes,
                    std::uint32_t type, const std::string& data) {
    return tensor_at(name, sizes, type, data_.size(), data);
  }
  GgufBytes& tensor_at(const std::string& name, const std::vector<std::uint64_t>& sizes,
                       std::uint32_t type, std::uint64_t offset, const std::string& data) {
    tensors_ += string(name) + bytes_of(static_cast<std::uint32_t>(sizes.size())) +
                bytes_of(sizes) + bytes_of(type) + bytes_of(offset);
    ++count_;
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    return *this;
  }

  std::string bytes() const {
    std::string out =
        "GGUF" + bytes_of(version_) + bytes_of(count_) + bytes_of(keys_) + metadata_ + tensors_;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data_;
  }

  static std::string string(const std::string& text) {
    return bytes_of(static_cast<std::uint64_t>(text.size())) + text;
  }

 private:
  std::uint32_t version_;
  std::uint64_t keys_ = 0;
  std::uint64_t count_ = 0;
  std::string metadata_;
  std::string tensors_;
  std::string data_;
};

// A rectangle of a tensor as f32, row by row.
inline std::vector<float> read_values(Checkpoint& checkpoint, const std::string& name, Range rows,
                                      Range columns, DType dtype = DType::f32) {
  const CheckpointTensor* tensor = checkpoint.find(name);
  const Tensor out(dtype, Device::cpu(), {rows.count, columns.count});
  checkpoint.read(*tensor, rows, columns, out);
  std::vector<float> values;
  for (std::int64_t i = 0; i < rows.count * columns.count; ++i) {
    if (dtype == DType::f32) values.push_back(out->as<float>()[i]);
    if (dtype == DType::f16) values.push_back(to_float(out->as<Half>()[i]));
    if (dtype == DType::bf16) values.push_back(to_float(out->as<Bfloat16>()[i]));
  }
  return values;
}

// Element [row, column] of a weight packed for the CPU.
inline float element(const LinearWeight& weight, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t width = LinearWeight::panel_width;
  const std::int64_t at = (row / width * weight.k + column) * width + row % width;
  const void* data = weight.data->data();
  switch (weight.dtype()) {
    case DType::f16:
      return to_float(static_cast<const Half*>(data)[at]);
    case DType::bf16:
      return to_float(static_cast<const Bfloat16*>(data)[at]);
    case DType::fp8_e4m3: {
      const float* scales = weight.scales->as<float>();
      const float scale =
          weight.scaling() == Fp8Scaling::rows
              ? scales[row]
              : scales[row / scale_block * weight.scales->size(1) + column / scale_block];
      return to_float(static_cast<const Fp8E4m3*>(data)[at]) * scale;
    }
    default:
      return static_cast<const float*>(data)[at];
  }
}

}  // namespace millrace::test
