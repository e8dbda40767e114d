#include "core/engine/transformer.hpp"

#include <algorithm>

#include "comm/split_sum.hpp"
#include "core/engine/workspace.hpp"
#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gather.hpp"
#include "kernels/linear.hpp"
#include "kernels/norm.hpp"
#include "kernels/quantize.hpp"
#include "kernels/rope_cache.hpp"

namespace millrace {

namespace {

// The front of a flat workspace as rows of `width`.
TensorView rows_of(const Tensor& memory, std::int64_t rows, std::int64_t width) {
  return memory->slice(0, 0, rows * width).reshape({rows, width});
}

}  // namespace

Transformer::Transformer(const ModelSpec& spec, const RankSlices& slices,
                         const RankWeights& weights, const Comm& tensor, std::int64_t max_tokens,
                         std::int64_t max_logits_rows, DType activation_dtype, Device device)
    : spec_(spec), slices_(slices), weights_(weights), tensor_(tensor) {
  const WorkspaceShape shape = workspace_shape(spec, slices, max_tokens, max_logits_rows);
  const auto make = [&](std::int64_t elements) {
    return Tensor(activation_dtype, device, {elements});
  };
  hidden_ = make(shape.hidden);
  if (!slices.has_head) other_hidden_ = make(shape.hidden);
  normalised_ = make(shape.hidden);
  update_ = make(shape.hidden);
  wide_ = make(shape.wide);
  inner_ = make(shape.inner);
  if (shape.quantized > 0) {
    quantized_ = Tensor(DType::fp8_e4m3, device, {shape.quantized});
    scales_ = Tensor(DType::f32, device, {shape.scales});
  }
  if (slices.has_head) {
    head_rows_ = make(shape.head_rows);
    if (spec.has_projections()) projected_ = make(shape.projected);
    logits_ = Tensor(DType::f32, device, {shape.logits});
  }
}

TensorView Transformer::hidden(std::int64_t tokens) const {
  return rows_of(hidden_, tokens, spec_.hidden_size);
}

void Transformer::embed(const DeviceBatch& batch, Stream stream) {
  const TensorView x = hidden(batch.num_tokens());
  const TensorView embedded =
      spec_.has_projections() ? rows_of(wide_, batch.num_tokens(), spec_.embedding_size) : x;
  embedding(embedded, batch.tokens(), weights_.token_embedding, slices_.vocab.begin,
            spec_.embedding_scale, stream);
  tensor_.all_reduce_sum(embedded, stream);  // each row lies on one rank, the others hold zeros
  if (spec_.has_projections()) linear(x, embedded, weights_.project_in, {}, false, stream);
  if (spec_.position == PositionKind::learned) {
    add_position_embedding(x, batch.positions(), weights_.position_embedding, spec_.position_offset,
                           stream);
  }
}

struct Transformer::Rows {
  TensorView x;           // the residual stream
  TensorView normalised;  // of a norm before a product
  TensorView update;      // what attention or MLP adds to x
  SumInParts sums;
  bool y_is_ready = false;  // attention_norm(x), done with the sum at the end of the layer before
};

Transformer::Rows Transformer::rows_of_step(std::int64_t count, Stream stream) const {
  const TensorView update = rows_of(update_, count, spec_.hidden_size);
  return {hidden(count), rows_of(normalised_, count, spec_.hidden_size), update,
          SumInParts(tensor_, update, stream)};
}

// Norm before: x += attention(norm(x)); x += mlp(norm(x)).
// After:       x = norm(x + attention(x)); x = norm(x + mlp(x)).
void Transformer::run_layers(const DeviceBatch& batch, const KvCache& cache,
                             const std::function<void()>& between_layers, Stream stream) {
  Rows rows = rows_of_step(batch.num_tokens(), stream);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    const TensorView context = run_attention(rows, i, batch, cache, stream);
    const TensorView& drawing = batch.logits_rows();
    if (!is_last_of_model(i) || drawing.size(0) == batch.num_tokens()) {
      run_rest(rows, i, context, stream);
    } else if (!drawing.empty()) {
      const TensorView kept = keep_drawing_rows(context, drawing, stream);
      Rows few = rows_of_step(drawing.size(0), stream);
      run_rest(few, i, kept, stream);
      for (const auto& part : few.sums.parts()) few.sums.wait_for(part, stream);
    }
    between_layers();
  }
  for (const auto& part : rows.sums.parts()) rows.sums.wait_for(part, stream);
}

TensorView Transformer::run_attention(Rows& rows, std::size_t i, const DeviceBatch& batch,
                                      const KvCache& cache, Stream stream) const {
  const LayerWeights& w = weights_.layers[i];
  const bool norm_before = layer_spec(i).norm_before;
  const TensorView qkv = rows_of(wide_, rows.x.size(0), qkv_shape(i).width());
  for (const auto& part : rows.sums.parts()) {
    rows.sums.wait_for(part, stream);
    LinearInput y = norm_before ? input_of(w.qkv, part.of(rows.normalised))
                                : quantized_for(w.qkv, part.of(rows.x), stream);
    if (norm_before && !rows.y_is_ready) norm(y, part.of(rows.x), w.attention_norm, stream);
    linear(part.of(qkv), y, w.qkv, w.qkv_bias, false, stream);
  }
  return attention(qkv, i, batch, cache, stream);
}

void Transformer::run_rest(Rows& rows, std::size_t i, const TensorView& context,
                           Stream stream) const {
  const LayerWeights& w = weights_.layers[i];
  const bool norm_before = layer_spec(i).norm_before;
  const TensorView& x = rows.x;
  SumInParts& sums = rows.sums;
  for (const auto& part : sums.parts()) {
    const TensorView out = part.of(rows.update);
    linear(out, quantized_for(w.o, part.of(context), stream), w.o, w.o_bias, false, stream);
    if (norm_before) {
      const LinearInput y = input_of(w.up, part.of(rows.normalised));
      sums.add(part, y, part.of(x), out, w.mlp_norm, stream);
    } else {
      sums.add(part, part.of(x), part.of(x), out, w.attention_norm, stream);
    }
  }
  rows.y_is_ready = norm_before && i + 1 < weights_.layers.size() && layer_spec(i + 1).norm_before;
  for (const auto& part : sums.parts()) {
    sums.wait_for(part, stream);
    const TensorView out = part.of(rows.update);
    mlp(out,
        norm_before ? input_of(w.up, part.of(rows.normalised))
                    : quantized_for(w.up, part.of(x), stream),
        i, stream);
    if (rows.y_is_ready) {
      const LayerWeights& next = weights_.layers[i + 1];
      const LinearInput y = input_of(next.qkv, part.of(rows.normalised));
      sums.add(part, y, part.of(x), out, next.attention_norm, stream);
    } else if (norm_before) {
      tensor_.all_reduce_sum(out, stream);
      add(part.of(x), out, stream);
    } else {
      sums.add(part, part.of(x), part.of(x), out, w.mlp_norm, stream);
    }
  }
}

bool Transformer::is_last_of_model(std::size_t i) const {
  return slices_.has_head && i + 1 == weights_.layers.size();
}

TensorView Transformer::keep_drawing_rows(const TensorView& context, const TensorView& drawing,
                                          Stream stream) const {
  const std::int64_t tokens = context.size(0);
  const std::int64_t count = drawing.size(0);
  const TensorView kept = rows_of(wide_, count, context.size(1));  // attention has read qkv
  gather_rows(kept, context, drawing, stream);
  const TensorView x = rows_of(normalised_, count, spec_.hidden_size);
  gather_rows(x, hidden(tokens), drawing, stream);
  copy(hidden(count), x, stream);
  return kept;
}

LinearInput Transformer::input_of(const LinearWeight& w, const TensorView& plain) const {
  const std::int64_t rows = plain.size(0);
  const TensorView values =
      w.scaling() == Fp8Scaling::none ? plain : rows_of(quantized_, rows, w.k);
  switch (w.scaling()) {
    case Fp8Scaling::rows:
      return {values, scales_->slice(0, 0, rows), w.input_scale};
    case Fp8Scaling::blocks:
      return {values, rows_of(scales_, scale_blocks(w.k), whole_groups(rows)), w.input_scale};
    case Fp8Scaling::none:
      break;
  }
  return values;
}

LinearInput Transformer::quantized_for(const LinearWeight& w, const TensorView& plain,
                                       Stream stream) const {
  const LinearInput input = input_of(w, plain);
  if (input.is_quantized()) quantize(input, plain, stream);
  return input;
}

TensorView Transformer::attention(const TensorView& qkv, std::size_t layer,
                                  const DeviceBatch& batch, const KvCache& cache,
                                  Stream stream) const {
  const LayerWeights& w = weights_.layers[layer];
  const AttentionSpec& spec = layer_spec(layer).attention;
  const QkvShape shape = qkv_shape(layer);
  qkv_to_cache(qkv, shape, weights_.rope_table, batch.positions(), batch.slots(), w.qk_norm,
               cache.keys(layer), cache.values(layer), stream);

  const TensorView q = qkv.slice(1, 0, shape.heads * shape.head_dim);
  const TensorView context = rows_of(inner_, qkv.size(0), shape.heads * shape.head_dim);
  const AttentionParams params{.heads = shape.heads,
                               .kv_heads = shape.kv_heads,
                               .head_dim = shape.head_dim,
                               .scale = spec.scale,
                               .window = spec.window,
                               .softcap = spec.softcap};
  paged_attention(context, q, cache.keys(layer), cache.values(layer), batch.attention(), params,
                  stream);
  return context;
}

void Transformer::mlp(const TensorView& out, const LinearInput& in, std::size_t layer,
                      Stream stream) const {
  const LayerWeights& w = weights_.layers[layer];
  const MlpSpec& spec = layer_spec(layer).mlp;
  const std::int64_t inner = slices_.slices[layer].intermediate.count;

  const TensorView up = rows_of(wide_, in.size(0), spec.gated ? 2 * inner : inner);
  linear(up, in, w.up, w.up_bias, false, stream);
  const LinearInput activated = input_of(w.down, rows_of(inner_, in.size(0), inner));
  if (spec.gated) {
    gated_activation(activated, up, spec.activation, stream);
  } else {
    activation(activated, up, spec.activation, stream);
  }
  linear(out, activated, w.down, w.down_bias, false, stream);
}

TensorView Transformer::logits(const DeviceBatch& batch, std::int64_t begin, std::int64_t count,
                               Stream stream) {
  const TensorView drawing = batch.logits_rows();
  const bool at_the_front = drawing.size(0) < batch.num_tokens();
  TensorView x = rows_of(head_rows_, count, spec_.hidden_size);
  const TensorView from = at_the_front ? hidden(drawing.size(0)).slice(0, begin, count) : x;
  if (!at_the_front) {
    gather_rows(x, hidden(batch.num_tokens()), drawing.slice(0, begin, count), stream);
  }
  if (spec_.final_norm) {
    norm(x, from, weights_.final_norm, stream);
  } else {
    x = from;
  }
  if (spec_.has_projections()) {
    const TensorView projected = rows_of(projected_, count, spec_.embedding_size);
    linear(projected, x, weights_.project_out, {}, false, stream);
    x = projected;
  }
  const TensorView logits = logits_of(count);
  linear(logits, x, weights_.lm_head(), {}, false, stream);
  if (spec_.logits_scale != 1.0F || spec_.logits_softcap > 0) {
    scale_softcap(logits, spec_.logits_scale, spec_.logits_softcap, stream);
  }
  return logits;
}

TensorView Transformer::logits_of(std::int64_t rows) const {
  return rows_of(logits_, rows, slices_.vocab_padded);
}

std::int64_t Transformer::activation_bytes() const {
  std::int64_t bytes = 0;
  for (const Tensor* t : {&hidden_, &other_hidden_, &normalised_, &update_, &wide_, &inner_,
                          &quantized_, &scales_, &head_rows_, &projected_, &logits_}) {
    if (!(*t)->empty()) bytes += static_cast<std::int64_t>((*t)->bytes());
  }
  return bytes;
}

QkvShape Transformer::qkv_shape(std::size_t layer) const {
  const LayerSlice& slice = slices_.slices[layer];
  return {slice.heads.count, slice.kv_heads.count, layer_spec(layer).attention.head_dim};
}

const LayerSpec& Transformer::layer_spec(std::size_t layer) const {
  return spec_.layers[static_cast<std::size_t>(slices_.layers.begin) + layer];
}

}  // namespace millrace
