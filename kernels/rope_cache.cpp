#include "kernels/rope_cache.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void qkv_to_cache(const TensorView& qkv, const QkvShape& shape, const TensorView& rope,
                  const TensorView& positions, const TensorView& slots, const QkNorm& qk_norm,
                  const TensorView& k_cache, const TensorView& v_cache, Stream stream) {
  constexpr auto op = "qkv_to_cache";
  check_activation(op, "qkv", qkv, {-1, shape.width()});
  check_tensor(op, "positions", positions, DType::i32, {qkv.size(0)});
  check_tensor(op, "slots", slots, DType::i32, {qkv.size(0)});
  if (rope.data() != nullptr) {
    check_tensor(op, "rope", rope, DType::f32, {-1, -1});
    check_contiguous(op, "rope", rope);
    check(rope.size(1) % 2 == 0 && rope.size(1) <= shape.head_dim, op,
          "rope is " + rope.describe() + ", expected an even rotary_dim up to head_dim " +
              std::to_string(shape.head_dim));
  }
  check((qk_norm.q_weight.data() == nullptr) == (qk_norm.k_weight.data() == nullptr), op,
        "q_weight and k_weight come together");
  if (qk_norm.q_weight.data() != nullptr) {
    check_tensor(op, "q_weight", qk_norm.q_weight, qkv.dtype(), {shape.head_dim});
    check_tensor(op, "k_weight", qk_norm.k_weight, qkv.dtype(), {shape.head_dim});
  }
  check_tensor(op, "k_cache", k_cache, k_cache.dtype(), {-1, shape.kv_heads, -1, shape.head_dim});
  check_tensor(op, "v_cache", v_cache, k_cache.dtype(),
               {k_cache.size(0), shape.kv_heads, k_cache.size(2), shape.head_dim});
  check_contiguous(op, "k_cache", k_cache);
  check_contiguous(op, "v_cache", v_cache);
  check_device(op, stream,
               {{"qkv", qkv},
                {"rope", rope},
                {"positions", positions},
                {"slots", slots},
                {"q_weight", qk_norm.q_weight},
                {"k_weight", qk_norm.k_weight},
                {"k_cache", k_cache},
                {"v_cache", v_cache}});
  if (qkv.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, qkv_to_cache, qkv, shape, rope, positions, slots, qk_norm,
                    k_cache, v_cache, stream);
}

}  // namespace millrace
