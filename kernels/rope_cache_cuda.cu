// QK norm, rotary embedding and the paged cache write on CUDA: one pass over the fused projection.
//
// A head is the work of a group of lanes. In the packed kernel a lane holds 16 bytes of the head's
// first half and the 16 bytes of the second half that they rotate with; it needs rotary_dim =
// head_dim (or none) and a head of whole packs. Any other head is the work of one warp, element by
// element.
#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_types.cuh"
#include "kernels/rope_cache.hpp"

namespace millrace::cuda {
namespace {

template <typename T, typename Cache>
struct QkvArgs {
  Rows<T> qkv;
  int heads, kv_heads, head_dim, block_size;
  const float* rope;  // nullptr for none
  int rotary_dim;
  const std::int32_t* positions;
  const std::int32_t* slots;
  const T* q_weight;  // both nullptr for none
  const T* k_weight;
  float eps, weight_offset;
  Cache* k_cache;
  Cache* v_cache;

  __device__ int all_heads() const { return heads + 2 * kv_heads; }
  __device__ bool is_query(int head) const { return head < heads; }
  __device__ bool is_value(int head) const { return head >= heads + kv_heads; }

  // Where a key or value head goes; nullptr for nowhere.
  __device__ Cache* cache_row(std::int32_t slot, int head) const {
    if (slot < 0) return nullptr;
    const int kv_head = (head - heads) % kv_heads;
    const std::int64_t block = slot / block_size;
    const int offset = slot % block_size;
    Cache* cache = is_value(head) ? v_cache : k_cache;
    return cache + ((block * kv_heads + kv_head) * block_size + offset) * head_dim;
  }
};

__device__ __forceinline__ void rotate(float& a, float& b, float cosine, float sine) {
  const float rotated = a * cosine - b * sine;
  b = b * cosine + a * sine;
  a = rotated;
}

template <typename To, int N>
__device__ __forceinline__ void store_floats(To* to, const float (&values)[N]) {
  Pack<To, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.values[i] = from_float<To>(values[i]);
  store_pack(to, pack);
}

// A thread has the same lane of `heads_a_thread` heads of a token, so that it reads its cosines and
// sines once and has many loads under way. lanes: head_dim / (2 * pack); groups: threads of a lane
// in a token. normed needs lanes to be a power of two, so that a head's lanes lie within a warp.
constexpr int heads_a_thread = 4;

template <typename T, typename Cache, bool normed>
__global__ void __launch_bounds__(256)
    qkv_packed(QkvArgs<T, Cache> args, int lanes, int groups, int tokens) {
  allow_next();
  constexpr int width = pack_width<T>();
  const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int lane = thread % lanes;
  const int group = thread / lanes % groups;
  const std::int64_t token = thread / lanes / groups;
  const int half = args.head_dim / 2;
  T* row = args.qkv.row(token < tokens ? token : 0) + lane * width;
  const int heads = token < tokens ? args.all_heads() : 0;

  // What is constant in a step comes while the op before still runs.
  const std::int32_t slot = heads > 0 ? args.slots[token] : -1;
  float cosines[width];
  float sines[width];
  const bool rotates = args.rope != nullptr;
  if (rotates && heads > 0) {
    const float* table =
        args.rope + static_cast<std::int64_t>(args.positions[token]) * args.head_dim + lane * width;
#pragma unroll
    for (int i = 0; i < width; i += 4) {
      const Pack<float, 4> c = load_pack<float, 4>(table + i);
      const Pack<float, 4> s = load_pack<float, 4>(table + half + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        cosines[i + j] = c.values[j];
        sines[i + j] = s.values[j];
      }
    }
  }
  wait_for_previous();
  if (!normed && token >= tokens) return;

  Pack<T, width> first[heads_a_thread];
  Pack<T, width> second[heads_a_thread];
#pragma unroll
  for (int h = 0; h < heads_a_thread; ++h) {
    const int head = group + h * groups;
    if (head >= heads) continue;
    first[h] = load_pack<T, width>(row + head * args.head_dim);
    second[h] = load_pack<T, width>(row + head * args.head_dim + half);
  }

#pragma unroll
  for (int h = 0; h < heads_a_thread; ++h) {
    const int head = group + h * groups;
    float a[width];
    float b[width];
#pragma unroll
    for (int i = 0; i < width; ++i) {
      a[i] = head < heads ? to_float(first[h].values[i]) : 0.0F;
      b[i] = head < heads ? to_float(second[h].values[i]) : 0.0F;
    }
    if constexpr (normed) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < width; ++i) squares += a[i] * a[i] + b[i] * b[i];
      for (int step = lanes / 2; step > 0; step /= 2) {
        squares += __shfl_xor_sync(0xffffffffU, squares, step);
      }
      if (head < heads && !args.is_value(head)) {
        const float scale = 1.0F / sqrtf(squares / static_cast<float>(args.head_dim) + args.eps);
        const T* weight = (args.is_query(head) ? args.q_weight : args.k_weight) + lane * width;
        const Pack<T, width> w_first = load_pack<T, width>(weight);
        const Pack<T, width> w_second = load_pack<T, width>(weight + half);
#pragma unroll
        for (int i = 0; i < width; ++i) {
          a[i] *= scale * (to_float(w_first.values[i]) + args.weight_offset);
          b[i] *= scale * (to_float(w_second.values[i]) + args.weight_offset);
        }
      }
    }
    if (head >= heads) continue;
    if (rotates && !args.is_value(head)) {
#pragma unroll
      for (int i = 0; i < width; ++i) rotate(a[i], b[i], cosines[i], sines[i]);
    }
    if (args.is_query(head)) {
      if (normed || rotates) {
        store_floats(row + head * args.head_dim, a);
        store_floats(row + head * args.head_dim + half, b);
      }
    } else if (Cache* to = args.cache_row(slot, head); to != nullptr) {
      store_floats(to + lane * width, a);
      store_floats(to + lane * width + half, b);
    }
  }
}

// grid: [ceil(all_heads / warps), tokens]; one warp a head. Keys and values are changed only on
// their way to the cache; queries in place, each pair by the lane that reads it.
template <typename T, typename Cache>
__global__ void qkv_by_element(QkvArgs<T, Cache> args) {
  allow_next();
  wait_for_previous();
  const std::int64_t token = blockIdx.y;
  const int head =
      static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / static_cast<unsigned>(warp_size));
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (head >= args.all_heads()) return;
  T* row = args.qkv.row(token) + static_cast<std::int64_t>(head) * args.head_dim;
  const bool is_query = args.is_query(head);
  Cache* cache = is_query ? nullptr : args.cache_row(args.slots[token], head);

  const T* weight = nullptr;
  float scale = 1;
  if (args.q_weight != nullptr && !args.is_value(head)) {
    weight = is_query ? args.q_weight : args.k_weight;
    float squares = 0;
    for (int i = lane; i < args.head_dim; i += warp_size) {
      squares += to_float(row[i]) * to_float(row[i]);
    }
    scale = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(args.head_dim) + args.eps);
  }
  const auto read = [&](int i) {
    const float value = to_float(row[i]);
    return weight == nullptr ? value : value * scale * (to_float(weight[i]) + args.weight_offset);
  };
  const auto write = [&](int i, float value) {
    if (is_query) {
      row[i] = from_float<T>(value);
    } else if (cache != nullptr) {
      cache[i] = from_float<Cache>(value);
    }
  };

  const int rotary = args.rope == nullptr || args.is_value(head) ? 0 : args.rotary_dim;
  const float* table =
      args.rope + static_cast<std::int64_t>(args.positions[token]) * args.rotary_dim;
  for (int i = lane; i < rotary / 2; i += warp_size) {
    float a = read(i);
    float b = read(i + rotary / 2);
    rotate(a, b, table[i], table[i + rotary / 2]);
    write(i, a);
    write(i + rotary / 2, b);
  }
  for (int i = rotary + lane; i < args.head_dim; i += warp_size) write(i, read(i));
}

template <typename T, typename Cache>
void launch(const QkvArgs<T, Cache>& args, std::int64_t tokens, bool packed, Stream stream) {
  constexpr int threads = 256;
  const int all_heads = args.heads + 2 * args.kv_heads;
  const int lanes = args.head_dim / (2 * pack_width<T>());
  const bool normed = args.q_weight != nullptr;
  const bool whole_packs = args.head_dim % (2 * pack_width<T>()) == 0 && lanes <= warp_size;
  const bool whole_rotation = args.rope == nullptr || args.rotary_dim == args.head_dim;
  const bool groups_fit = !normed || (lanes & (lanes - 1)) == 0;
  if (packed && whole_packs && whole_rotation && groups_fit) {
    const auto groups = static_cast<int>(ceil_div(all_heads, heads_a_thread));
    const auto grid = static_cast<unsigned>(ceil_div(tokens * groups * lanes, threads));
    const auto count = static_cast<int>(tokens);
    const auto kernel = normed ? qkv_packed<T, Cache, true> : qkv_packed<T, Cache, false>;
    return launch_early("qkv_packed", kernel, {grid, threads}, stream, args, lanes, groups, count);
  }
  const dim3 grid(static_cast<unsigned>(ceil_div(all_heads, threads / warp_size)),
                  static_cast<unsigned>(tokens));
  launch_early("qkv_by_element", qkv_by_element<T, Cache>, {grid, threads}, stream, args);
}

}  // namespace

void qkv_to_cache(const TensorView& qkv, const QkvShape& shape, const TensorView& rope,
                  const TensorView& positions, const TensorView& slots, const QkNorm& qk_norm,
                  const TensorView& k_cache, const TensorView& v_cache, Stream stream) {
  constexpr std::int64_t max_tokens_a_launch = 65535;  // gridDim.y
  const std::int64_t tokens = qkv.size(0);
  const bool packed = rows_are_packed(qkv) && rows_are_packed(qk_norm.q_weight) &&
                      rows_are_packed(qk_norm.k_weight) && rows_are_packed(rope);
  with_float_type("qkv_to_cache", qkv.dtype(), [&](auto element) {
    using T = decltype(element);
    with_cache_type("qkv_to_cache", k_cache.dtype(), [&](auto cache_element) {
      using Cache = decltype(cache_element);
      for (std::int64_t begin = 0; begin < tokens; begin += max_tokens_a_launch) {
        const std::int64_t count = std::min(tokens - begin, max_tokens_a_launch);
        const QkvArgs<T, Cache> args{rows_of<T>(qkv.slice(0, begin, count)),
                                     static_cast<int>(shape.heads),
                                     static_cast<int>(shape.kv_heads),
                                     static_cast<int>(shape.head_dim),
                                     static_cast<int>(k_cache.size(2)),
                                     rope.empty() ? nullptr : rope.as<float>(),
                                     rope.empty() ? 0 : static_cast<int>(rope.size(1)),
                                     positions.as<std::int32_t>() + begin,
                                     slots.as<std::int32_t>() + begin,
                                     static_cast<const T*>(qk_norm.q_weight.data()),
                                     static_cast<const T*>(qk_norm.k_weight.data()),
                                     qk_norm.eps,
                                     qk_norm.weight_offset,
                                     static_cast<Cache*>(k_cache.data()),
                                     static_cast<Cache*>(v_cache.data())};
        launch(args, count, packed, stream);
      }
    });
  });
}

}  // namespace millrace::cuda
