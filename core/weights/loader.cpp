#include "core/weights/loader.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "comm/agree.hpp"
#include "core/model/rope_table.hpp"
#include "core/model/tensor_slice.hpp"
#include "core/weights/fp8_scales.hpp"
#include "core/weights/printable.hpp"
#include "core/weights/read_weight.hpp"
#include "core/weights/weight_pipeline.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// One load: the table by layer and role, and where results go. Everything is put on the list first,
// then read in one go.
class Loader {
 public:
  Loader(const ModelDescription& model, Checkpoint& checkpoint, const RankSlices& slices,
         const LoadOptions& options, Stream stream)
      : spec_(model.spec),
        checkpoint_(checkpoint),
        prefixes_(model.name_prefixes),
        slices_(slices),
        options_(options),
        stream_(stream),
        pipeline_(checkpoint, options.peers, options.piece_bytes, stream) {
    std::int64_t number = 0;
    for (const TensorSpec& tensor : model.tensors) {
      weights_.emplace(
          std::pair(tensor.layer, tensor.role),
          Weight{tensor, find_weight(checkpoint, tensor, model.name_prefixes), number++});
    }
  }

  // Everything that needs no other rank.
  void prepare() {
    result_.tied = spec_.tied_embeddings;
    result_.layers.resize(static_cast<std::size_t>(slices_.layers.count));
    matrix(result_.token_embedding, -1, {WeightRole::token_embedding}, slices_.vocab_padded);
    position_embedding();
    matrix(result_.project_in, -1, {WeightRole::project_in});
    for (std::size_t i = 0; i < result_.layers.size(); ++i) {
      layer(result_.layers[i], static_cast<int>(slices_.layers.begin) + static_cast<int>(i));
    }
    norm(result_.final_norm, -1, WeightRole::final_norm, WeightRole::final_norm_bias);
    matrix(result_.project_out, -1, {WeightRole::project_out});
    matrix(result_.untied_head, -1, {WeightRole::lm_head}, slices_.vocab_padded);
    if (spec_.position == PositionKind::rotary) make_rope_table();
    pipeline_.prepare();
  }

  RankWeights load() {
    pipeline_.run();
    return std::move(result_);
  }

 private:
  struct Weight {
    const TensorSpec& spec;
    const CheckpointTensor& stored;
    std::int64_t number;
  };

  void layer(LayerWeights& weights, int index) {
    pipeline_.agree_here();  // a rank that fails, or a job that stops, costs the others one layer
    norm(weights.attention_norm, index, WeightRole::attention_norm,
         WeightRole::attention_norm_bias);
    matrix(weights.qkv, index, {WeightRole::q, WeightRole::k, WeightRole::v});
    vector(weights.qkv_bias, index, {WeightRole::q_bias, WeightRole::k_bias, WeightRole::v_bias});
    if (spec_.layers[static_cast<std::size_t>(index)].attention.qk_norm) {
      weights.qk_norm.eps = spec_.norm_eps;
      weights.qk_norm.weight_offset = spec_.norm_weight_offset;
      vector(weights.qk_norm.q_weight, index, {WeightRole::q_norm});
      vector(weights.qk_norm.k_weight, index, {WeightRole::k_norm});
    }
    matrix(weights.o, index, {WeightRole::o});
    vector(weights.o_bias, index, {WeightRole::o_bias});
    norm(weights.mlp_norm, index, WeightRole::mlp_norm, WeightRole::mlp_norm_bias);
    matrix(weights.up, index, {WeightRole::gate, WeightRole::up});
    vector(weights.up_bias, index, {WeightRole::gate_bias, WeightRole::up_bias});
    matrix(weights.down, index, {WeightRole::down});
    vector(weights.down_bias, index, {WeightRole::down_bias});
  }

  // What this rank holds of the weights with these roles; roles that the model has not are left
  // out.
  std::vector<WeightPart> parts_of(int layer, std::initializer_list<WeightRole> roles) const {
    std::vector<WeightPart> parts;
    for (const WeightRole role : roles) {
      const auto at = weights_.find({layer, role});
      if (at == weights_.end()) continue;
      const Weight& weight = at->second;
      const std::optional<TensorSlice> slice = slice_of(weight.spec, spec_, slices_);
      if (!slice) continue;
      parts.push_back({weight.spec, weight.stored, *slice,
                       options_.peers != nullptr ? sharers_of(weight.spec, spec_, *options_.peers)
                                                 : no_sharers(*slice, slices_.tensor_rank),
                       weight.number});
    }
    return parts;
  }

  static std::int64_t rows_of(const std::vector<WeightPart>& parts) {
    std::int64_t rows = 0;
    for (const WeightPart& part : parts) rows += part.slice.rows.count;
    return rows;
  }

  // The weights with these roles below one another, packed; zero rows fill up to `padded_rows`.
  void matrix(LinearWeight& to, int layer, std::initializer_list<WeightRole> roles,
              std::int64_t padded_rows = 0) {
    std::vector<WeightPart> parts = parts_of(layer, roles);
    if (parts.empty()) return;
    const std::int64_t rows = std::max(rows_of(parts), padded_rows);
    const Fp8Source fp8 = fp8_source(parts);
    const bool is_stored = fp8 == Fp8Source::channels || fp8 == Fp8Source::blocks;
    const auto scales = std::make_shared<Fp8Scales>();
    if (is_stored) *scales = read_fp8_scales(checkpoint_, prefixes_, parts);
    const DType dtype = is_stored ? DType::fp8_e4m3 : options_.dtype;
    pipeline_.add(std::move(parts), rows, dtype, [=, this, &to](const TensorView& read) {
      if (is_stored) {
        to = pack_linear_fp8(read, scales->weight, scales->input, options_.device, stream_);
      } else if (fp8 == Fp8Source::at_load) {
        to = quantize_linear(read, options_.device, stream_);
      } else {
        to = pack_linear(read, options_.device, stream_);
      }
      result_.report.weight_bytes += static_cast<std::int64_t>(to.bytes());
    });
  }

  // Weights that are one product are fp8 together or not at all.
  Fp8Source fp8_source(const std::vector<WeightPart>& parts) const {
    const TensorSpec& first = parts.front().spec;
    for (const WeightPart& part : parts) {
      if (part.spec.fp8 == first.fp8) continue;
      throw UserError(
          "{}: of '{}' and '{}' one is fp8 and the other is not, which is not supported",
          checkpoint_.describe(), printable(first.name), printable(part.spec.name));
    }
    return first.fp8;
  }

  DType activation_dtype() const { return options_.device.is_cpu() ? DType::f32 : options_.dtype; }

  // The vectors with these roles one after the other, in the activations' dtype.
  void vector(TensorView& to, int layer, std::initializer_list<WeightRole> roles) {
    std::vector<WeightPart> parts = parts_of(layer, roles);
    if (parts.empty()) return;
    const std::int64_t size = rows_of(parts);
    pipeline_.add(std::move(parts), size, activation_dtype(),
                  [this, &to, size](const TensorView& read) { to = keep(read).reshape({size}); });
  }

  void position_embedding() {
    std::vector<WeightPart> parts = parts_of(-1, {WeightRole::position_embedding});
    if (parts.empty()) return;
    const std::int64_t rows = rows_of(parts);
    pipeline_.add(std::move(parts), rows, activation_dtype(),
                  [this](const TensorView& read) { result_.position_embedding = keep(read); });
  }

  void norm(NormWeights& to, int layer, WeightRole weight, WeightRole bias) {
    to.kind = spec_.norm;
    to.eps = spec_.norm_eps;
    to.weight_offset = spec_.norm_weight_offset;
    vector(to.weight, layer, {weight});
    vector(to.bias, layer, {bias});
  }

  void make_rope_table() {
    std::vector<float> values = rope_table(spec_.rotary, options_.max_positions);
    result_.rope_table = keep(TensorView(values.data(), DType::f32, Device::cpu(),
                                         {options_.max_positions, spec_.rotary.rotary_dim}));
  }

  // A copy on the device that the result owns.
  TensorView keep(const TensorView& read) {
    Tensor kept(read.dtype(), options_.device, {read.size(0), read.size(1)});
    copy(kept, read, stream_);
    synchronize(stream_);
    result_.report.weight_bytes += static_cast<std::int64_t>(kept->bytes());
    result_.storage.push_back(std::move(kept));
    return result_.storage.back();
  }

  const ModelSpec& spec_;
  Checkpoint& checkpoint_;
  const std::vector<std::string>& prefixes_;
  const RankSlices& slices_;
  const LoadOptions& options_;
  Stream stream_;
  std::map<std::pair<int, WeightRole>, Weight> weights_;
  RankWeights result_;
  WeightPipeline pipeline_;
};

}  // namespace

RankWeights load_weights(const ModelDescription& model, Checkpoint& checkpoint,
                         const RankSlices& slices, const LoadOptions& options, Stream stream) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t read_before = checkpoint.bytes_read();
  std::optional<Loader> loader;
  const auto prepare = [&] {
    loader.emplace(model, checkpoint, slices, options, stream);
    loader->prepare();
  };
  if (options.peers != nullptr) {
    agree(options.peers->replicas, [&] { agree(options.peers->tensor, prepare); });
  } else {
    prepare();
  }
  RankWeights weights = loader->load();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  weights.report.bytes_read = checkpoint.bytes_read() - read_before;
  weights.report.seconds = elapsed.count();
  return weights;
}

}  // namespace millrace
