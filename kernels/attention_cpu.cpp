// The plain version: for one query head at a time, all scores, their softmax, the weighted sum of
// values.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.hpp"

namespace millrace::cpu {
namespace {

float widen(float value) { return value; }
float widen(Half value) { return to_float(value); }
float widen(Bfloat16 value) { return to_float(value); }
float widen(Fp8E4m3 value) { return to_float(value); }

// The cached vector of one key position of one KV head.
template <typename T>
const T* cached(const TensorView& cache, const std::int32_t* block_table, std::int64_t position,
                std::int64_t kv_head) {
  const std::int64_t block_size = cache.size(2);
  return cache.as<T>() + block_table[position / block_size] * cache.stride(0) +
         kv_head * cache.stride(1) + position % block_size * cache.stride(2);
}

template <typename T>
void attend(float* out, const float* q, const TensorView& k_cache, const TensorView& v_cache,
            const std::int32_t* block_table, std::int64_t begin, std::int64_t end,
            std::int64_t kv_head, const AttentionParams& params) {
  std::vector<float> weights;
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t j = begin; j < end; ++j) {
    const T* k = cached<T>(k_cache, block_table, j, kv_head);
    float dot = 0;
    for (std::int64_t i = 0; i < params.head_dim; ++i) dot += q[i] * widen(k[i]);
    float score = params.scale * dot;
    if (params.softcap > 0) score = params.softcap * std::tanh(score / params.softcap);
    weights.push_back(score);
    largest = std::max(largest, score);
  }
  float total = 0;
  for (float& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  std::fill_n(out, params.head_dim, 0.0F);
  for (std::int64_t j = begin; j < end; ++j) {
    const T* v = cached<T>(v_cache, block_table, j, kv_head);
    const float weight = weights[static_cast<std::size_t>(j - begin)] / total;
    for (std::int64_t i = 0; i < params.head_dim; ++i) out[i] += weight * widen(v[i]);
  }
}

template <typename T>
void attend_all(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                const TensorView& v_cache, const AttentionBatch& batch,
                const AttentionParams& params) {
  const std::int32_t* starts = batch.query_starts.as<std::int32_t>();
  for (std::int64_t s = 0; s < batch.kv_lengths.size(0); ++s) {
    const std::int64_t kv_length = batch.kv_lengths.as<std::int32_t>()[s];
    const std::int32_t* block_table =
        batch.block_tables.as<std::int32_t>() + s * batch.block_tables.stride(0);
    for (std::int64_t row = starts[s]; row < starts[s + 1]; ++row) {
      const std::int64_t end = std::max<std::int64_t>(kv_length - starts[s + 1] + row + 1, 0);
      const std::int64_t begin =
          params.window > 0 ? std::max<std::int64_t>(end - params.window, 0) : 0;
      for (std::int64_t h = 0; h < params.heads; ++h) {
        attend<T>(out.as<float>() + row * out.stride(0) + h * params.head_dim,
                  q.as<float>() + row * q.stride(0) + h * params.head_dim, k_cache, v_cache,
                  block_table, begin, end, h / (params.heads / params.kv_heads), params);
      }
    }
  }
}

}  // namespace

void paged_attention_plain(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                           const TensorView& v_cache, const AttentionBatch& batch,
                           const AttentionParams& params, Stream) {
  const DType dtype = k_cache.dtype();
  if (dtype == DType::f32) attend_all<float>(out, q, k_cache, v_cache, batch, params);
  if (dtype == DType::bf16) attend_all<Bfloat16>(out, q, k_cache, v_cache, batch, params);
  if (dtype == DType::f16) attend_all<Half>(out, q, k_cache, v_cache, batch, params);
  if (dtype == DType::fp8_e4m3) attend_all<Fp8E4m3>(out, q, k_cache, v_cache, batch, params);
}

}  // namespace millrace::cpu
