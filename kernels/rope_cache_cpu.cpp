#include <algorithm>
#include <cmath>

#include "kernels/base/team.hpp"
#include "kernels/rope_cache.hpp"

namespace millrace::cpu {
namespace {

void norm_head(float* head, const float* weight, const QkNorm& qk_norm, std::int64_t n) {
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += head[i] * head[i];
  const float scale = 1.0F / std::sqrt(sum / static_cast<float>(n) + qk_norm.eps);
  for (std::int64_t i = 0; i < n; ++i)
    head[i] = head[i] * scale * (weight[i] + qk_norm.weight_offset);
}

void rotate_head(float* head, const float* cosines, std::int64_t half) {
  const float* sines = cosines + half;
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

void store(float* to, const float* from, std::int64_t n) { std::copy_n(from, n, to); }
void store(Bfloat16* to, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_bfloat16(from[i]);
}
void store(Half* to, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_half(from[i]);
}
void store(Fp8E4m3* to, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_fp8_e4m3(from[i]);
}

// Writes a token's heads to [block, head, offset] of a cache.
template <typename T>
void write(const TensorView& cache, std::int64_t slot, const float* heads) {
  const std::int64_t block_size = cache.size(2);
  const std::int64_t head_dim = cache.size(3);
  T* place = cache.as<T>() + slot / block_size * cache.stride(0) + slot % block_size * head_dim;
  for (std::int64_t h = 0; h < cache.size(1); ++h) {
    store(place + h * cache.stride(1), heads + h * head_dim, head_dim);
  }
}

void write(const TensorView& cache, std::int64_t slot, const float* heads) {
  if (cache.dtype() == DType::f32) write<float>(cache, slot, heads);
  if (cache.dtype() == DType::bf16) write<Bfloat16>(cache, slot, heads);
  if (cache.dtype() == DType::f16) write<Half>(cache, slot, heads);
  if (cache.dtype() == DType::fp8_e4m3) write<Fp8E4m3>(cache, slot, heads);
}

}  // namespace

void qkv_to_cache(const TensorView& qkv, const QkvShape& shape, const TensorView& rope,
                  const TensorView& positions, const TensorView& slots, const QkNorm& qk_norm,
                  const TensorView& k_cache, const TensorView& v_cache, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(qkv.size(0), qkv.numel() / 2))
  for (std::int64_t t = 0; t < qkv.size(0); ++t) {
    float* q = qkv.as<float>() + t * qkv.stride(0);
    float* k = q + shape.heads * shape.head_dim;
    const float* v = k + shape.kv_heads * shape.head_dim;
    for (std::int64_t h = 0; h < shape.heads + shape.kv_heads; ++h) {
      float* head = q + h * shape.head_dim;
      if (qk_norm.q_weight.data() != nullptr) {
        const TensorView& weight = h < shape.heads ? qk_norm.q_weight : qk_norm.k_weight;
        norm_head(head, weight.as<float>(), qk_norm, shape.head_dim);
      }
      if (rope.data() != nullptr) {
        const std::int64_t position = positions.as<std::int32_t>()[t];
        rotate_head(head, rope.as<float>() + position * rope.stride(0), rope.size(1) / 2);
      }
    }
    const std::int64_t slot = slots.as<std::int32_t>()[t];
    if (slot < 0) continue;
    write(k_cache, slot, k);
    write(v_cache, slot, v);
  }
}

}  // namespace millrace::cpu
