// Prefill attention with the matrix product that every GPU since sm_80 has: any head size, 16-bit
// or fp8 cache, any block size. Four warps hold 16 packed query rows each (see attention_cuda.cuh)
// and walk the keys in tiles that all four share, double buffered, with the online softmax of
// arXiv:2307.08691.
#include <algorithm>

#include "kernels/attention_prefill_fragments.cuh"

namespace millrace::cuda {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int tile_rows = 16 * warps;
constexpr int stages = 2;

// Keys of a tile: fewer where the accumulators of a wide head fill the registers.
__host__ __device__ constexpr int tile_keys(int head_dim) { return head_dim > 128 ? 32 : 64; }

template <typename T, typename Kv, int head_dim>
constexpr int shared_bytes() {
  return stages * 2 * tile_keys(head_dim) * KvRows<T, Kv, head_dim>::stride;
}

template <typename T, typename Kv, int head_dim>
__global__ void __launch_bounds__(threads) prefill_kernel(AttentionArgs args) {
  using Rows16 = KvRows<T, Kv, head_dim>;
  constexpr int keys_a_tile = tile_keys(head_dim);
  constexpr int half_bytes = keys_a_tile * Rows16::stride;
  extern __shared__ __align__(16) unsigned char shared[];

  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int kv_head = static_cast<int>(blockIdx.y);
  // The last tiles of a prompt see the most keys: they go first.
  const QueryTile tile =
      find_query_tile(args, static_cast<int>(gridDim.x - 1 - blockIdx.x), tile_rows);
  if (tile.sequence < 0) return;

  const int first_position = tile.kv_length - tile.queries;
  const int rows = tile.queries * args.group;
  const auto position_of_row = [&](int row) { return first_position + row / args.group; };
  const int last_row = min(tile.row + tile_rows, rows) - 1;
  // Zero keys for the rows behind the last sequence, whose kv length is 0.
  const int keys_end = tile.kv_length == 0 ? 0 : position_of_row(last_row) + 1;
  const int keys_begin = args.first_key(position_of_row(tile.row)) / keys_a_tile * keys_a_tile;

  const auto* k_cache = static_cast<const unsigned char*>(args.k_cache);
  const auto* v_cache = static_cast<const unsigned char*>(args.v_cache);
  // The rows behind the last sequence have no table, and no keys to look up in it.
  const std::int32_t* table =
      args.block_tables + min(tile.sequence, args.sequences - 1) * args.table_stride;
  const auto load_tile = [&](int begin, int stage) {
    if (begin < keys_end) {
      const std::uint32_t to =
          shared_address(shared) + static_cast<std::uint32_t>(stage * 2 * half_bytes);
      constexpr int units = Rows16::units * keys_a_tile;
#pragma unroll
      for (int i = 0; i < units; i += threads) {
        const int unit = i + static_cast<int>(threadIdx.x);
        if (units % threads == 0 || unit < units) {
          const int row = unit / Rows16::units;
          const int key = min(begin + row, tile.kv_length - 1);
          const std::int64_t block = table[key / args.block_size];
          const std::int64_t from =
              ((block * args.kv_heads + kv_head) * args.block_size + key % args.block_size) *
                  Rows16::row_bytes +
              unit % Rows16::units * 16;
          const bool valid = begin + row < tile.kv_length;
          const std::uint32_t at =
              to + static_cast<std::uint32_t>(row * Rows16::stride + unit % Rows16::units * 16);
          copy_async(at, k_cache + from, valid);
          copy_async(at + half_bytes, v_cache + from, valid);
        }
      }
    }
    commit_copies();
  };
#pragma unroll
  for (int stage = 0; stage < stages; ++stage) load_tile(keys_begin + stage * keys_a_tile, stage);

  const auto head_offset = [&](int row) {
    return (kv_head * args.group + row % args.group) * head_dim;
  };
  const int warp_row = tile.row + warp * 16;
  std::uint32_t queries[head_dim / 16][4];
  const auto query_of_row = [&](int i) -> const T* {
    const int row = warp_row + lane / 4 + i;
    if (row >= rows) return nullptr;
    return static_cast<const T*>(args.q) + (tile.first_token + row / args.group) * args.q_stride +
           head_offset(row);
  };
  const T* upper = query_of_row(0);
  const T* lower = query_of_row(8);
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
    load_query_fragment<T, Rows16>(queries[step], upper, lower, step);
  }

  float sums[head_dim / 8][4] = {};
  RunningSoftmax softmax;
  int positions[2];  // of this lane's two rows; -1 for a row that is not there
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + lane / 4 + 8 * half;
    positions[half] = row < rows ? position_of_row(row) : -1;
  }

  int stage = 0;
  for (int begin = keys_begin; begin < keys_end; begin += keys_a_tile) {
    wait_copies<stages - 1>();
    __syncthreads();
    const std::uint32_t key_rows =
        shared_address(shared) + static_cast<std::uint32_t>(stage * 2 * half_bytes);

    float scores[keys_a_tile / 8][4] = {};
#pragma unroll
    for (int step = 0; step < head_dim / 16; ++step) {
#pragma unroll
      for (int part = 0; part < keys_a_tile / 16; ++part) {
        std::uint32_t b[4];
        Rows16::keys(b, key_rows + static_cast<std::uint32_t>(part * 16 * Rows16::stride), step);
        multiply_add<T>(scores[2 * part], queries[step], b[0], b[1]);
        multiply_add<T>(scores[2 * part + 1], queries[step], b[2], b[3]);
      }
    }
    cap_scores(scores, args);
    mask_scores(scores, args, positions, begin);
    rescale(sums, softmax.update(scores, exponent_scale(args)));
#pragma unroll
    for (int part = 0; part < keys_a_tile / 16; ++part) {
      const std::uint32_t probabilities[4] = {
          pack_two<T>(scores[2 * part][0], scores[2 * part][1]),
          pack_two<T>(scores[2 * part][2], scores[2 * part][3]),
          pack_two<T>(scores[2 * part + 1][0], scores[2 * part + 1][1]),
          pack_two<T>(scores[2 * part + 1][2], scores[2 * part + 1][3])};
      const std::uint32_t value_rows =
          key_rows + static_cast<std::uint32_t>(half_bytes + part * 16 * Rows16::stride);
#pragma unroll
      for (int step = 0; step < head_dim / 16; ++step) {
        std::uint32_t b[4];
        Rows16::values(b, value_rows, step);
        multiply_add<T>(sums[2 * step], probabilities, b[0], b[1]);
        multiply_add<T>(sums[2 * step + 1], probabilities, b[2], b[3]);
      }
    }
    __syncthreads();
    load_tile(begin + stages * keys_a_tile, stage);
    stage = stage + 1 == stages ? 0 : stage + 1;
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sum_of_quad(softmax.sum[half]);
    const int row = warp_row + lane / 4 + 8 * half;
    if (row >= rows) continue;
    T* out = static_cast<T*>(args.out) + (tile.first_token + row / args.group) * args.out_stride +
             head_offset(row);
    store_output_row<T, Rows16, head_dim>(out, sums, half, sum > 0 ? 1.0F / sum : 0.0F);
  }
}

template <typename T, typename Kv, int head_dim>
void launch(const AttentionArgs& args, Stream stream) {
  const auto kernel = prefill_kernel<T, Kv, head_dim>;
  constexpr int bytes = shared_bytes<T, Kv, head_dim>();
  static thread_local bool prepared = false;
  if (!prepared) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "cudaFuncSetAttribute");
    prepared = true;
  }
  const dim3 grid(static_cast<unsigned>(query_tile_bound(args, tile_rows)),
                  static_cast<unsigned>(args.kv_heads));
  kernel<<<grid, threads, bytes, native(stream)>>>(args);
  check_launch("prefill_kernel");
}

}  // namespace

bool prefill_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  bool found = false;
  const bool known = with_tensor_core_types(dtype, cache, [&](auto element, auto cache_element) {
    found = with_head_dim(args.head_dim, [&](auto size) {
      launch<decltype(element), decltype(cache_element), decltype(size)::value>(args, stream);
    });
  });
  return known && found;
}

}  // namespace millrace::cuda
