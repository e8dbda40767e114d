// Model specs for tests of what is computed from them.
#pragma once

#include <cstdint>

#include "core/model/model_spec.hpp"

namespace millrace::test {

inline ModelSpec make_spec(int heads, int kv_heads, int head_dim, std::int64_t hidden,
                           std::int64_t intermediate, std::int64_t vocab, int layers) {
  LayerSpec layer;
  layer.attention.heads = heads;
  layer.attention.kv_heads = kv_heads;
  layer.attention.head_dim = head_dim;
  layer.mlp.intermediate_size = intermediate;
  ModelSpec spec;
  spec.hidden_size = hidden;
  spec.embedding_size = hidden;
  spec.vocab_size = vocab;
  spec.max_position_embeddings = 2048;
  spec.rotary.rotary_dim = head_dim;
  spec.layers.assign(static_cast<std::size_t>(layers), layer);
  return spec;
}

inline ModelSpec smollm2() { return make_spec(9, 3, 64, 576, 1536, 49152, 30); }

}  // namespace millrace::test
