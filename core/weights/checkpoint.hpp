// A checkpoint: tensors by name, of which any rectangle can be read. Implementations: safetensors
// (one file or sharded), GGUF, and dummy weights made up from a seed.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/model_folder.hpp"
#include "core/model/partition.hpp"
#include "core/model/tensor_spec.hpp"
#include "core/weights/storage_type.hpp"
#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

struct CheckpointTensor {
  std::string name;
  StorageType type = StorageType::f32;
  std::vector<std::int64_t> shape;  // outermost first
};

// Weights that are made where they are wanted.
class WeightMaker {
 public:
  virtual ~WeightMaker() = default;
  // What Checkpoint::read() gives, in memory of the stream's device. `transposed`: the rectangle is
  // one of the tensor's transpose.
  virtual void make(const CheckpointTensor& tensor, Range rows, Range columns, bool transposed,
                    const TensorView& out, Stream stream) const = 0;
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  // What the errors name: a file or a folder.
  virtual std::string describe() const = 0;

  // nullptr when there is no tensor of that name.
  virtual const CheckpointTensor* find(std::string_view tensor) const = 0;

  // Reads a rectangle of a tensor that find() gave, of up to two dimensions ([n] is n rows of one
  // column, a scalar one of them), into host memory `out` [rows.count, columns.count], f32, f16 or
  // bf16; fp8 where it is stored so, and nothing else. Reads no bytes outside the rectangle but for
  // quantized blocks that its edge cuts. Throws UserError naming the file when it is shorter than
  // its header says.
  virtual void read(const CheckpointTensor& tensor, Range rows, Range columns,
                    const TensorView& out) = 0;

  // Not null for weights that are in no file.
  virtual const WeightMaker* maker() const { return nullptr; }

  // Bytes read from files so far.
  std::int64_t bytes_read() const { return bytes_read_; }

 protected:
  Checkpoint() = default;
  std::int64_t bytes_read_ = 0;
};

// The checkpoint of a resolved model: its .gguf file, its model.safetensors, or the shards that its
// model.safetensors.index.json lists. Opens and validates headers; throws UserError.
std::unique_ptr<Checkpoint> open_checkpoint(const ModelFiles& files);

// For many ranks: one reads the headers, the others open the checkpoint with them, and a file only
// when they read weights from it.
std::vector<std::byte> read_checkpoint_heads(const ModelFiles& files);
std::unique_ptr<Checkpoint> open_checkpoint(const ModelFiles& files,
                                            std::span<const std::byte> heads);

// Made-up weights for a model of which only the config is at hand. An element is a function of the
// seed, the tensor's name and its index, so every grid sees the same model. Norm weights are 1 and
// matrices spread so that activations stay of order one.
std::unique_ptr<Checkpoint> make_dummy_checkpoint(const ModelDescription& model,
                                                  std::uint64_t seed);

}  // namespace millrace
