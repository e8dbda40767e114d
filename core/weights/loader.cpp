#include "core/weights/loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <map>
#include <optional>
#include <utility>

#include "core/model/rope_table.hpp"
#include "core/model/tensor_slice.hpp"
#include "core/weights/read_weight.hpp"

namespace millrace {
namespace {

// One load: the table by layer and role, and where results go.
class Loader {
 public:
  Loader(const ModelDescription& model, Checkpoint& checkpoint, const RankSlices& slices,
         const LoadOptions& options, Stream stream)
      : spec_(model.spec),
        checkpoint_(checkpoint),
        slices_(slices),
        options_(options),
        stream_(stream) {
    for (const TensorSpec& tensor : model.tensors) {
      weights_.emplace(std::pair(tensor.layer, tensor.role),
                       Weight{tensor, &find_weight(checkpoint, tensor, model.name_prefixes)});
    }
  }

  RankWeights load() {
    result_.tied = spec_.tied_embeddings;
    result_.token_embedding = matrix(-1, {WeightRole::token_embedding}, slices_.vocab_padded);
    result_.position_embedding = position_embedding();
    result_.project_in = matrix(-1, {WeightRole::project_in});
    for (std::int64_t i = slices_.layers.begin; i < slices_.layers.end(); ++i) {
      result_.layers.push_back(layer(static_cast<int>(i)));
    }
    result_.final_norm = norm(-1, WeightRole::final_norm, WeightRole::final_norm_bias);
    result_.project_out = matrix(-1, {WeightRole::project_out});
    result_.untied_head = matrix(-1, {WeightRole::lm_head}, slices_.vocab_padded);
    if (spec_.position == PositionKind::rotary) result_.rope_table = make_rope_table();
    return std::move(result_);
  }

 private:
  struct Weight {
    const TensorSpec& spec;
    const CheckpointTensor* stored;
  };

  LayerWeights layer(int index) {
    const AttentionSpec& attention = spec_.layers[static_cast<std::size_t>(index)].attention;
    LayerWeights weights;
    weights.attention_norm =
        norm(index, WeightRole::attention_norm, WeightRole::attention_norm_bias);
    weights.qkv = matrix(index, {WeightRole::q, WeightRole::k, WeightRole::v});
    weights.qkv_bias = vector(index, {WeightRole::q_bias, WeightRole::k_bias, WeightRole::v_bias});
    if (attention.qk_norm) {
      weights.qk_norm = {.q_weight = vector(index, {WeightRole::q_norm}),
                         .k_weight = vector(index, {WeightRole::k_norm}),
                         .eps = spec_.norm_eps,
                         .weight_offset = spec_.norm_weight_offset};
    }
    weights.o = matrix(index, {WeightRole::o});
    weights.o_bias = vector(index, {WeightRole::o_bias});
    weights.mlp_norm = norm(index, WeightRole::mlp_norm, WeightRole::mlp_norm_bias);
    weights.up = matrix(index, {WeightRole::gate, WeightRole::up});
    weights.up_bias = vector(index, {WeightRole::gate_bias, WeightRole::up_bias});
    weights.down = matrix(index, {WeightRole::down});
    weights.down_bias = vector(index, {WeightRole::down_bias});
    return weights;
  }

  struct Part {
    const Weight& weight;
    TensorSlice slice;
  };

  // What this rank holds of the weights with these roles; roles that the model has not are left
  // out.
  std::vector<Part> parts_of(int layer, std::initializer_list<WeightRole> roles) const {
    std::vector<Part> parts;
    for (const WeightRole role : roles) {
      const auto at = weights_.find({layer, role});
      if (at == weights_.end()) continue;
      const std::optional<TensorSlice> slice = slice_of(at->second.spec, spec_, slices_);
      if (slice) parts.push_back({at->second, *slice});
    }
    return parts;
  }

  static std::int64_t rows_of(const std::vector<Part>& parts) {
    std::int64_t rows = 0;
    for (const Part& part : parts) rows += part.slice.rows.count;
    return rows;
  }

  // The parts below one another in host memory [rows, columns].
  void read(const std::vector<Part>& parts, const TensorView& out) {
    std::int64_t row = 0;
    for (const Part& part : parts) {
      read_weight(checkpoint_, *part.weight.stored, part.weight.spec, part.slice,
                  out.slice(0, row, part.slice.rows.count));
      row += part.slice.rows.count;
    }
  }

  // The weights with these roles below one another, packed; zero rows fill up to `padded_rows`.
  LinearWeight matrix(int layer, std::initializer_list<WeightRole> roles,
                      std::int64_t padded_rows = 0) {
    const std::vector<Part> parts = parts_of(layer, roles);
    if (parts.empty()) return {};
    const std::int64_t rows = rows_of(parts);
    const std::int64_t all_rows = std::max(rows, padded_rows);
    const TensorView host = staging(all_rows, parts.front().slice.columns.count);
    read(parts, host.slice(0, 0, rows));
    const TensorView padding = host.slice(0, rows, all_rows - rows);
    if (!padding.empty()) std::memset(padding.data(), 0, padding.bytes());
    LinearWeight packed = pack_linear(host, options_.device, stream_);
    result_.report.weight_bytes += static_cast<std::int64_t>(packed.data->bytes());
    return packed;
  }

  // Host memory for a matrix on its way, used again for the next: fresh pages would be zeroed by
  // the system first, which costs more than reading into them.
  TensorView staging(std::int64_t rows, std::int64_t columns) {
    const TensorView shape(nullptr, options_.dtype, Device::cpu(), {rows, columns});
    if (shape.bytes() > staging_.bytes()) {
      staging_ = Buffer();
      staging_ = Buffer(shape.bytes(), Device::cpu());
    }
    return TensorView(staging_.data(), options_.dtype, Device::cpu(), {rows, columns});
  }

  DType activation_dtype() const { return options_.device.is_cpu() ? DType::f32 : options_.dtype; }

  // The vectors with these roles one after the other, in the activations' dtype.
  TensorView vector(int layer, std::initializer_list<WeightRole> roles) {
    const std::vector<Part> parts = parts_of(layer, roles);
    if (parts.empty()) return {};
    const std::int64_t size = rows_of(parts);
    Tensor host(activation_dtype(), Device::cpu(), {size, 1});
    read(parts, host);
    return keep(std::move(host)).reshape({size});
  }

  TensorView position_embedding() {
    const std::vector<Part> parts = parts_of(-1, {WeightRole::position_embedding});
    if (parts.empty()) return {};
    Tensor host(activation_dtype(), Device::cpu(),
                {rows_of(parts), parts.front().slice.columns.count});
    read(parts, host);
    return keep(std::move(host));
  }

  NormWeights norm(int layer, WeightRole weight, WeightRole bias) {
    return {.kind = spec_.norm,
            .weight = vector(layer, {weight}),
            .bias = vector(layer, {bias}),
            .eps = spec_.norm_eps,
            .weight_offset = spec_.norm_weight_offset};
  }

  TensorView make_rope_table() {
    const std::vector<float> values = rope_table(spec_.rotary, options_.max_positions);
    Tensor host(DType::f32, Device::cpu(), {options_.max_positions, spec_.rotary.rotary_dim});
    std::memcpy(host->data(), values.data(), host->bytes());
    return keep(std::move(host));
  }

  // Moves a tensor to the device, where the result owns it.
  TensorView keep(Tensor host) {
    result_.report.weight_bytes += static_cast<std::int64_t>(host->bytes());
    if (!options_.device.is_cpu()) {
      Tensor there(host->dtype(), options_.device, {host->size(0), host->size(1)});
      copy(there, host, stream_);
      synchronize(stream_);  // the host copy dies here
      host = std::move(there);
    }
    result_.storage.push_back(std::move(host));
    return result_.storage.back();
  }

  const ModelSpec& spec_;
  Checkpoint& checkpoint_;
  const RankSlices& slices_;
  const LoadOptions& options_;
  Stream stream_;
  std::map<std::pair<int, WeightRole>, Weight> weights_;
  RankWeights result_;
  Buffer staging_;
};

}  // namespace

RankWeights load_weights(const ModelDescription& model, Checkpoint& checkpoint,
                         const RankSlices& slices, const LoadOptions& options, Stream stream) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t read_before = checkpoint.bytes_read();
  RankWeights weights = Loader(model, checkpoint, slices, options, stream).load();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  weights.report.bytes_read = checkpoint.bytes_read() - read_before;
  weights.report.seconds = elapsed.count();
  return weights;
}

std::string describe(const LoadReport& report) {
  const double gigabytes = static_cast<double>(report.bytes_read) * 1e-9;
  return fmt::format("read {:.2f} GB in {:.2f} s ({:.2f} GB/s)", gigabytes, report.seconds,
                     report.seconds > 0 ? gigabytes / report.seconds : 0.0);
}

}  // namespace millrace
