// The model, as the papers write it: embedding, layers of attention and MLP around a residual
// stream, output head. One rank's share of it: its pipeline stage's layers, its tensor rank's
// heads, inner columns and vocabulary. Everything it does is decided by the ModelSpec; nothing is
// allocated in a step.
#pragma once

#include <functional>
#include <utility>

#include "comm/comm.hpp"
#include "core/engine/device_batch.hpp"
#include "core/engine/kv_cache.hpp"
#include "core/model/model_spec.hpp"
#include "core/model/partition.hpp"
#include "core/weights/loader.hpp"
#include "kernels/rope_cache.hpp"

namespace millrace {

class Transformer {
 public:
  // Activations are f32 on the CPU and in the weights' dtype on a GPU. At most `max_tokens` run in
  // a step and `max_logits_rows` of them ask for logits at once. The references must outlive it.
  Transformer(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
              const Comm& tensor, std::int64_t max_tokens, std::int64_t max_logits_rows,
              DType activation_dtype, Device device);

  // The residual stream [tokens, hidden]: what embed() writes, run_layers() takes in and leaves
  // behind, and a stage hands to the next. The same on all tensor ranks.
  TensorView hidden(std::int64_t tokens) const;

  // Every stage but the last has two of them, so that one may still be on its way to the next
  // stage: takes the other from now on.
  void swap_hidden() { std::swap(hidden_, other_hidden_); }

  // First stage: token and position embeddings into hidden().
  void embed(const DeviceBatch& batch, Stream stream);

  // This stage's layers, in place on hidden(); their keys and values go into the cache. Behind the
  // model's last attention only rows that draw a token are gone on with: when others were there,
  // hidden() then begins with these, and the rest means nothing.
  // `between_layers` is called on the host after each layer is enqueued.
  void run_layers(const DeviceBatch& batch, const KvCache& cache,
                  const std::function<void()>& between_layers, Stream stream);

  // Last stage, after run_layers(): the final norm and the output head over `count` of the rows
  // that draw, from the `begin`-th on. Returns [count, vocab_padded] f32, valid until the next
  // call: this rank's part of the vocabulary, of which the first vocab.count columns mean
  // something.
  TensorView logits(const DeviceBatch& batch, std::int64_t begin, std::int64_t count,
                    Stream stream);

  // Where logits() of n rows leaves them.
  TensorView logits_of(std::int64_t rows) const;

  // Bytes of the workspace.
  std::int64_t activation_bytes() const;

 private:
  // What a layer works on, and the sums of it that are under way.
  struct Rows;

  Rows rows_of_step(std::int64_t count, Stream stream) const;
  // Of layer `i`: from the residual stream to what attention leaves, whose keys and values are in
  // the cache; the output product and what follows.
  TensorView run_attention(Rows& rows, std::size_t i, const DeviceBatch& batch,
                           const KvCache& cache, Stream stream) const;
  void run_rest(Rows& rows, std::size_t i, const TensorView& context, Stream stream) const;
  // The rows that draw, brought to the front of hidden(); answers theirs of `context`.
  TensorView keep_drawing_rows(const TensorView& context, const TensorView& drawing,
                               Stream stream) const;
  // Whether rows that draw nothing end at layer `i`.
  bool is_last_of_model(std::size_t i) const;

  // Writes the cache; answers attention's output per head, before the output product.
  TensorView attention(const TensorView& qkv, std::size_t layer, const DeviceBatch& batch,
                       const KvCache& cache, Stream stream) const;
  void mlp(const TensorView& out, const LinearInput& in, std::size_t layer, Stream stream) const;

  // Where an op leaves rows that the product with `w` reads next: in `plain`, or, for an fp8
  // weight, in the one workspace of quantized rows.
  LinearInput input_of(const LinearWeight& w, const TensorView& plain) const;
  // Rows that lie there already, brought to the form that `w` reads.
  LinearInput quantized_for(const LinearWeight& w, const TensorView& plain, Stream stream) const;
  QkvShape qkv_shape(std::size_t layer) const;
  const LayerSpec& layer_spec(std::size_t layer) const;

  const ModelSpec& spec_;
  const RankSlices& slices_;
  const RankWeights& weights_;
  const Comm& tensor_;

  Tensor hidden_;  // [max_tokens, hidden]
  Tensor other_hidden_;
  Tensor normalised_;  // [max_tokens, hidden]
  Tensor update_;      // [max_tokens, hidden]: what attention or MLP adds to the residual stream
  Tensor wide_;        // a layer's widest rows: qkv, gate and up; the narrow token embedding
  Tensor inner_;       // attention's output per head, the MLP's inner activations
  Tensor quantized_;   // what an fp8 product reads, as fp8; with fp8 weights only
  Tensor scales_;      // and its scales
  Tensor head_rows_;   // [max_logits_rows, hidden]
  Tensor projected_;   // [max_logits_rows, embedding_size], with projections only
  Tensor logits_;      // [max_logits_rows, vocab_padded] f32
};

}  // namespace millrace
