#include "core/weights/fp8_scales.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {
namespace {

class Reader {
 public:
  Reader(Checkpoint& checkpoint, const std::vector<std::string>& prefixes)
      : checkpoint_(checkpoint), prefixes_(prefixes) {}

  const CheckpointTensor& find(const std::string& name) const {
    for (const std::string& prefix : prefixes_) {
      const CheckpointTensor* stored = checkpoint_.find(prefix + name);
      if (stored != nullptr) return *stored;
    }
    throw UserError("{}: tensor '{}' is missing", checkpoint_.describe(), prefixes_.front() + name);
  }

  // A rectangle of a tensor of scales.
  void read(const CheckpointTensor& stored, Range rows, Range columns, const TensorView& out) {
    if (stored.type == StorageType::f8_e4m3) {
      throw UserError("{}: tensor '{}' is stored as {}, scales are F32, F16 or BF16",
                      checkpoint_.describe(), printable(stored.name), name(stored.type));
    }
    checkpoint_.read(stored, rows, columns, out);
    for (std::int64_t i = 0; i < out.size(0); ++i) {
      for (std::int64_t j = 0; j < out.size(1); ++j) {
        const float scale = out.as<float>()[i * out.stride(0) + j];
        if (std::isfinite(scale) && scale > 0) continue;
        throw UserError("{}: tensor '{}' holds the scale {}, which is no positive number",
                        checkpoint_.describe(), printable(stored.name), scale);
      }
    }
  }

  float read_one(const std::string& name) {
    const CheckpointTensor& stored = find(name);
    if (elements(stored) != 1) fail_shape(stored, {1});
    const Tensor value(DType::f32, Device::cpu(), {1, 1});
    read(stored, {0, 1}, {0, 1}, value);
    return value->as<float>()[0];
  }

  static std::int64_t elements(const CheckpointTensor& stored) {
    std::int64_t product = 1;
    for (const std::int64_t size : stored.shape) product *= size;
    return product;
  }

  [[noreturn]] void fail_shape(const CheckpointTensor& stored,
                               const std::vector<std::int64_t>& expected) const {
    throw UserError("{}: tensor '{}' has shape [{}], its weight asks for [{}]",
                    checkpoint_.describe(), printable(stored.name), fmt::join(stored.shape, ", "),
                    fmt::join(expected, ", "));
  }

 private:
  Checkpoint& checkpoint_;
  const std::vector<std::string>& prefixes_;
};

// Into out [rows of the slice].
void read_channels(Reader& reader, const WeightPart& part, const TensorView& out) {
  const CheckpointTensor& stored = reader.find(part.spec.scale_name);
  const std::int64_t rows = part.spec.shape[0];
  if (Reader::elements(stored) == 1) {
    const float scale = reader.read_one(part.spec.scale_name);
    std::fill_n(out.as<float>(), out.size(0), scale);
    return;
  }
  const bool is_column =
      stored.shape.size() == 1 || (stored.shape.size() == 2 && stored.shape[1] == 1);
  if (!is_column || stored.shape[0] != rows) reader.fail_shape(stored, {rows, 1});
  reader.read(stored, part.slice.rows, {0, 1}, out.reshape({out.size(0), 1}));
}

// Blocks of a range; `whole`: the size of what it is a range of.
Range blocks_of(const TensorSpec& weight, Range range, std::int64_t whole, bool may_end_short) {
  const bool fits = range.begin % scale_block == 0 &&
                    (range.count % scale_block == 0 || (may_end_short && range.end() == whole));
  if (!fits && range.count == whole) {
    throw UserError(
        "tensor '{}' has a scale for each 128 x 128 elements and {} rows, no whole number of "
        "blocks: the matrix that is stacked behind it would begin within one",
        printable(weight.name), whole);
  }
  if (!fits) {
    throw UserError(
        "tensor '{}' has a scale for each 128 x 128 elements and would be cut at {} and {} of {}: "
        "another tensor parallel size is needed",
        printable(weight.name), range.begin, range.end(), whole);
  }
  return {range.begin / scale_block, scale_blocks(range.count)};
}

void read_blocks(Reader& reader, const WeightPart& part, bool is_last, const TensorView& scales,
                 std::int64_t& row) {
  const CheckpointTensor& stored = reader.find(part.spec.scale_name);
  const std::vector<std::int64_t> expected{scale_blocks(part.spec.shape[0]),
                                           scale_blocks(part.spec.shape[1])};
  if (stored.shape != expected) reader.fail_shape(stored, expected);
  const Range rows = blocks_of(part.spec, part.slice.rows, part.spec.shape[0], is_last);
  const Range columns = blocks_of(part.spec, part.slice.columns, part.spec.shape[1], true);
  reader.read(stored, rows, columns, scales.slice(0, row, rows.count));
  row += rows.count;
}

}  // namespace

Fp8Scales read_fp8_scales(Checkpoint& checkpoint, const std::vector<std::string>& prefixes,
                          const std::vector<WeightPart>& parts) {
  Reader reader(checkpoint, prefixes);
  std::int64_t rows = 0;
  for (const WeightPart& part : parts) rows += part.slice.rows.count;
  Fp8Scales scales;
  std::int64_t row = 0;
  if (parts.front().spec.fp8 == Fp8Source::blocks) {
    const std::int64_t columns = parts.front().slice.columns.count;
    scales.weight = Tensor(DType::f32, Device::cpu(), {scale_blocks(rows), scale_blocks(columns)});
    for (const WeightPart& part : parts) {
      read_blocks(reader, part, &part == &parts.back(), scales.weight, row);
    }
  } else {
    scales.weight = Tensor(DType::f32, Device::cpu(), {rows});
    for (const WeightPart& part : parts) {
      read_channels(reader, part, scales.weight->slice(0, row, part.slice.rows.count));
      row += part.slice.rows.count;
    }
  }
  for (const WeightPart& part : parts) {
    if (part.spec.input_scale_name.empty()) continue;
    scales.input = std::max(scales.input, reader.read_one(part.spec.input_scale_name));
  }
  return scales;
}

}  // namespace millrace
