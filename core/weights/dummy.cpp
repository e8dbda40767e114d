// Weights made up from a config, for tests, plans and benchmarks of models that are not at hand.
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "core/weights/checkpoint.hpp"
#include "core/weights/file_tensor.hpp"
#include "kernels/linear_input.hpp"
#include "kernels/made_up.hpp"

namespace millrace {
namespace {

std::uint64_t key_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15ULL);
  for (const char c : name) key = mix(key ^ static_cast<unsigned char>(c)) + 0x9e3779b97f4a7c15ULL;
  return key;
}

struct DummyEntry : CheckpointTensor {
  std::uint64_t key = 0;
  float center = 0.0F;
  float reach = 0.0F;  // elements are uniform in [center - reach, center + reach)

  MadeUpNumbers numbers() const { return {key, center, reach / 32768.0F}; }
  std::int64_t width() const { return shape.size() == 2 ? shape[1] : 1; }
};

bool is_norm_weight(WeightRole role) {
  return role == WeightRole::attention_norm || role == WeightRole::mlp_norm ||
         role == WeightRole::final_norm || role == WeightRole::q_norm || role == WeightRole::k_norm;
}

class DummyCheckpoint final : public Checkpoint, public WeightMaker {
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
    make(tensor, rows, columns, false, out, {});
  }

  const WeightMaker* maker() const override { return this; }

  void make(const CheckpointTensor& tensor, Range rows, Range columns, bool transposed,
            const TensorView& out, Stream stream) const override {
    const auto& entry = static_cast<const DummyEntry&>(tensor);
    MadeUpPlaces places{rows.begin * entry.width() + columns.begin, entry.width(), 1};
    if (transposed) {
      places = {columns.begin * entry.width() + rows.begin, 1, entry.width()};
    }
    make_up(out, entry.numbers(), places, stream);
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
