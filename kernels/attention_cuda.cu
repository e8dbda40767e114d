// Paged attention on CUDA: chooses a kernel for the decode part and one for the prefill part of a
// batch, and holds the plain kernel that takes any types and sizes with f32 arithmetic throughout.
#include "kernels/attention.hpp"

#include <algorithm>

#include "kernels/attention_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr int warps = 4;
constexpr int lane_dims = 16;  // so that a head has at most 512 dimensions

// The sequence that token row `token` belongs to, from `first` on; args.sequences when none does.
__device__ int sequence_of_token(const AttentionArgs& args, int first, int token) {
  int low = first;
  int high = args.sequences;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (args.query_starts[middle + 1] <= token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// One warp a (token, query head). 32 keys at a time: lanes take keys for the scores, then
// dimensions for the values.
template <typename T, typename Kv>
__global__ void plain_kernel(AttentionArgs args, int first_token, int first_sequence,
                             int last_token) {
  extern __shared__ float queries[];
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int token = first_token + static_cast<int>(blockIdx.x) * warps + warp;
  const int head = static_cast<int>(blockIdx.y);
  if (token >= last_token) return;
  const int head_dim = args.head_dim;

  const int sequence = sequence_of_token(args, first_sequence, token);
  T* out = static_cast<T*>(args.out) + token * args.out_stride + head * head_dim;
  const int length = sequence < args.sequences ? args.kv_lengths[sequence] : 0;
  if (length == 0) {
    for (int d = lane; d < head_dim; d += warp_size) out[d] = from_float<T>(0.0F);
    return;
  }
  const int position = length - (args.query_starts[sequence + 1] - token);
  const int kv_head = head / args.group;
  const std::int32_t* table = args.block_tables + sequence * args.table_stride;
  const auto row_of_key = [&](const void* cache, int key) {
    const std::int64_t block = table[key / args.block_size];
    return static_cast<const Kv*>(cache) +
           ((block * args.kv_heads + kv_head) * args.block_size + key % args.block_size) * head_dim;
  };

  float* query = queries + warp * head_dim;
  const T* q = static_cast<const T*>(args.q) + token * args.q_stride + head * head_dim;
  for (int d = lane; d < head_dim; d += warp_size) query[d] = to_float(q[d]);
  __syncwarp();

  float sums[lane_dims] = {};
  float maximum = -INFINITY;
  float sum = 0;
  for (int begin = args.first_key(position); begin <= position; begin += warp_size) {
    const int key = begin + lane;
    float score = -INFINITY;
    if (key <= position) {
      const Kv* row = row_of_key(args.k_cache, key);
      float dot = 0;
      for (int d = 0; d < head_dim; ++d) dot += query[d] * to_float(row[d]);
      score = dot * args.scale;
      if (args.softcap > 0) score = args.softcap * tanhf(score / args.softcap);
    }
    float largest = fmaxf(maximum, score);
#pragma unroll
    for (int step = warp_size / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, step));
    }
    const float factor = expf(maximum - largest);
    maximum = largest;
    const float probability = expf(score - largest);
    sum = sum * factor + warp_sum(probability);
#pragma unroll
    for (int i = 0; i < lane_dims; ++i) sums[i] *= factor;
    const int keys = min(warp_size, position + 1 - begin);
    for (int k = 0; k < keys; ++k) {
      const float weight = __shfl_sync(0xffffffffU, probability, k);
      const Kv* row = row_of_key(args.v_cache, begin + k);
#pragma unroll
      for (int i = 0; i < lane_dims; ++i) {
        const int d = i * warp_size + lane;
        if (d < head_dim) sums[i] += weight * to_float(row[d]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < lane_dims; ++i) {
    const int d = i * warp_size + lane;
    if (d < head_dim) out[d] = from_float<T>(sums[i] / sum);
  }
}

void plain_attention(const AttentionArgs& args, DType dtype, DType cache, int first_token,
                     int first_sequence, int last_token, Stream stream) {
  if (args.head_dim > lane_dims * warp_size)
    throw_no_kernel("paged_attention, this head_dim", dtype);
  const dim3 grid(static_cast<unsigned>(ceil_div(last_token - first_token, warps)),
                  static_cast<unsigned>(args.heads));
  const auto shared = static_cast<std::size_t>(warps * args.head_dim) * sizeof(float);
  with_float_type("paged_attention", dtype, [&](auto element) {
    with_cache_type("paged_attention", cache, [&](auto cache_element) {
      plain_kernel<decltype(element), decltype(cache_element)>
          <<<grid, warps * warp_size, shared, native(stream)>>>(args, first_token, first_sequence,
                                                                last_token);
      check_launch("plain_kernel");
    });
  });
}

}  // namespace

CUtensorMap map_of_cache(const AttentionArgs& args, const void* cache, DType dtype,
                         int box_row_bytes, int box_rows) {
  const auto block_size = static_cast<std::uint64_t>(args.block_size);
  const auto kv_heads = static_cast<std::uint64_t>(args.kv_heads);
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(args.head_dim) * size_of(dtype);
  const std::uint64_t sizes[] = {static_cast<std::uint64_t>(args.head_dim), block_size, kv_heads,
                                 static_cast<std::uint64_t>(args.blocks)};
  const std::uint64_t stride_bytes[] = {row_bytes, row_bytes * block_size,
                                        row_bytes * block_size * kv_heads};
  const std::uint32_t box[] = {
      static_cast<std::uint32_t>(static_cast<std::size_t>(box_row_bytes) / size_of(dtype)),
      static_cast<std::uint32_t>(box_rows), 1, 1};
  return map_of_tensor(cache, dtype, sizes, stride_bytes, box);
}

void paged_attention(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                     const TensorView& v_cache, const AttentionBatch& batch,
                     const AttentionParams& params, Stream stream) {
  AttentionArgs args{};
  args.q = q.data();
  args.out = out.data();
  args.q_stride = q.stride(0);
  args.out_stride = out.stride(0);
  args.k_cache = k_cache.data();
  args.v_cache = v_cache.data();
  args.query_starts = batch.query_starts.as<std::int32_t>();
  args.kv_lengths = batch.kv_lengths.as<std::int32_t>();
  args.block_tables = batch.block_tables.as<std::int32_t>();
  args.table_stride = batch.block_tables.stride(0);
  args.table_width = static_cast<int>(batch.block_tables.size(1));
  args.tokens = static_cast<int>(q.size(0));
  args.sequences = static_cast<int>(batch.kv_lengths.size(0));
  args.decode_sequences = batch.decode_sequences;
  args.heads = static_cast<int>(params.heads);
  args.kv_heads = static_cast<int>(params.kv_heads);
  args.group = args.heads / args.kv_heads;
  args.head_dim = static_cast<int>(params.head_dim);
  args.block_size = static_cast<int>(k_cache.size(2));
  args.blocks = static_cast<int>(k_cache.size(0));
  args.scale = params.scale;
  args.window = params.window;
  args.softcap = params.softcap;

  const DType dtype = q.dtype();
  const DType cache = k_cache.dtype();
  const bool aligned = rows_are_packed(q) && rows_are_packed(out) && rows_are_packed(k_cache) &&
                       rows_are_packed(v_cache);
  args.prefill_beside = args.decode_sequences > 0 && args.tokens > args.decode_sequences;
  if (args.decode_sequences > 0 && !(aligned && decode_attention(args, dtype, cache, stream))) {
    // One query is a short prompt to the other kernels: blocks of less than 16 keys, and devices
    // with little shared memory, have tensor cores too.
    args.decode_sequences = 0;
    args.prefill_beside = false;
  }
  const int decoded = args.decode_sequences;
  if (args.tokens > decoded && !(aligned && (prefill_attention_sm90(args, dtype, cache, stream) ||
                                             prefill_attention(args, dtype, cache, stream)))) {
    plain_attention(args, dtype, cache, decoded, decoded, args.tokens, stream);
  }
}

}  // namespace millrace::cuda
