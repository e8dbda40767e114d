// Weights made up from a config, for tests, plans and benchmarks of models that are not at hand.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "core/weights/checkpoint.hpp"
#include "core/weights/convert.hpp"
#include "core/weights/file_tensor.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {
namespace {

// A 64-bit finaliser (splitmix64): every input bit moves every output bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

std::uint64_t key_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15ULL);
  for (const char c : name) key = mix(key ^ static_cast<unsigned char>(c)) + 0x9e3779b97f4a7c15ULL;
  return key;
}

struct DummyEntry : CheckpointTensor {
  std::uint64_t key = 0;
  float center = 0.0F;
  float reach = 0.0F;  // elements are uniform in [center - reach, center + reach)
};

bool is_norm_weight(WeightRole role) {
  return role == WeightRole::attention_norm || role == WeightRole::mlp_norm ||
         role == WeightRole::final_norm || role == WeightRole::q_norm || role == WeightRole::k_norm;
}

// Elements [begin, begin + count) of a tensor. One 64-bit word makes four elements of 16 bits, the
// lowest first.
void fill(const DummyEntry& entry, std::int64_t begin, std::int64_t count, float* to) {
  const float unit = entry.reach / 32768.0F;
  const auto words = [&](std::int64_t element) {
    return mix(entry.key + static_cast<std::uint64_t>(element / 4));
  };
  const auto value = [&](std::uint64_t word, std::int64_t place) {
    const auto bits = static_cast<std::uint16_t>(word >> (place * 16));
    return entry.center + unit * static_cast<float>(static_cast<std::int16_t>(bits));
  };
  const std::int64_t end = begin + count;
  std::int64_t i = begin;
  for (; i < end && i % 4 != 0; ++i) *to++ = value(words(i), i % 4);
  for (; i + 4 <= end; i += 4, to += 4) {
    const std::uint64_t word = words(i);
    for (std::int64_t place = 0; place < 4; ++place) to[place] = value(word, place);
  }
  for (; i < end; ++i) *to++ = value(words(i), i % 4);
}

class DummyCheckpoint final : public Checkpoint {
 public:
  DummyCheckpoint(const ModelDescription& model, std::uint64_t seed) {
    for (const TensorSpec& weight : model.tensors) {
      DummyEntry entry;
      entry.name = weight.name;
      entry.shape = weight.shape;
      if (weight.fused_rows > 0) entry.shape[0] = weight.fused_rows;
      if (weight.transposed) std::swap(entry.shape[0], entry.shape[1]);
      entry.key = key_of(seed, weight.name);
      if (is_norm_weight(weight.role)) {
        entry.center = 1.0F - model.spec.norm_weight_offset;
      } else if (weight.shape.size() == 2) {
        // A variance of 1 / inputs keeps a product as large as what it multiplies.
        entry.reach = std::sqrt(3.0F / static_cast<float>(weight.shape[1]));
      } else {
        entry.reach = 0.02F;
      }
      if (weight.is_stored_as_fp8()) add_fp8(weight, entry);
      entries_.emplace(weight.name, std::move(entry));
    }
  }

  std::string describe() const override { return "made-up weights"; }

  const CheckpointTensor* find(std::string_view tensor) const override {
    const auto at = entries_.find(tensor);
    return at == entries_.end() ? nullptr : &at->second;
  }

  void read(const CheckpointTensor& tensor, Range rows, Range columns,
            const TensorView& out) override {
    check_rectangle(tensor, rows, columns, out);
    const auto& entry = static_cast<const DummyEntry&>(tensor);
    const std::int64_t width = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
    const auto element = static_cast<std::int64_t>(size_of(out.dtype()));
    auto* const data = static_cast<std::byte*>(out.data());
#pragma omp parallel if (rows.count * columns.count > (1 << 18))
    {
      std::vector<float> row(static_cast<std::size_t>(columns.count));
#pragma omp for
      for (std::int64_t r = 0; r < rows.count; ++r) {
        fill(entry, (rows.begin + r) * width + columns.begin, columns.count, row.data());
        convert_elements(StorageType::f32, reinterpret_cast<const std::byte*>(row.data()),
                         columns.count, out.dtype(), data + r * out.stride(0) * element);
      }
    }
  }

 private:
  // The weight fills fp8's range, and its scales bring it back.
  void add_fp8(const TensorSpec& weight, DummyEntry& entry) {
    DummyEntry scales;
    scales.name = weight.scale_name;
    scales.shape =
        weight.fp8 == Fp8Source::blocks
            ? std::vector<std::int64_t>{scale_blocks(entry.shape[0]), scale_blocks(entry.shape[1])}
            : std::vector<std::int64_t>{entry.shape[0], 1};
    scales.center = entry.reach / 448.0F;
    entries_.emplace(scales.name, scales);
    if (!weight.input_scale_name.empty()) {
      DummyEntry inputs;
      inputs.name = weight.input_scale_name;
      inputs.shape = {1};
      inputs.center = 16.0F / 448.0F;  // activations are of order one
      entries_.emplace(inputs.name, inputs);
    }
    entry.type = StorageType::f8_e4m3;
    entry.reach = 448.0F;
  }

  std::map<std::string, DummyEntry, std::less<>> entries_;
};

}  // namespace

std::unique_ptr<Checkpoint> make_dummy_checkpoint(const ModelDescription& model,
                                                  std::uint64_t seed) {
  return std::make_unique<DummyCheckpoint>(model, seed);
}

}  // namespace millrace
