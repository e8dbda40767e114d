// Sampling on CUDA: draws. Gumbel-max wants the exact noise of the winner only. A token's noise is
// -log(-log(1 - u)) < -log(u), so one logarithm of the chip's own bounds each token's value from
// above, and what cannot win for that is never computed.
#include <cfloat>

#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

// A row's logits by quads of tokens 4 q .. 4 q + 3, which share one call of the generator. Columns
// count from the first token of the quad that the shard begins in.
struct TokenQuads {
  LogitRows rows;
  int missing;  // tokens of the first quad that the shard does not have

  TokenQuads(const TensorView& logits, VocabShard shard)
      : rows(logits, shard), missing(static_cast<int>(shard.begin % 4)) {}

  __device__ std::int32_t token(int column) const {
    return static_cast<std::int32_t>(rows.begin) - missing + column;
  }
  __device__ Pack<float, 4> quad(std::int64_t row, int column) const {
    if (missing == 0) return rows.quad(row, column);
    Pack<float, 4> values;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int from = column + i - missing;
      values.values[i] = from >= 0 && from < rows.size ? rows.logits.row(row)[from] : NAN;
    }
    return values;
  }
};

struct DrawArgs {
  const float* temperature;
  const std::int64_t* noise_keys;
  const std::int32_t* positions;
  const std::int32_t* thresholds;  // nullptr: every token can be drawn
};

// One row's draw at a temperature above 0. limited: some tokens cannot be drawn, often most.
template <bool limited>
struct NoisyDraw {
  const TokenQuads& quads;
  std::int64_t row;
  std::int64_t noise_key;
  std::int32_t position;
  float inverse_temperature;
  float least_logit;  // of a token that can be drawn

  __device__ Philox words(int column) const {
    return noise_words(noise_key, position, quads.token(column) >> 2);
  }

  // What a token's value, up to rounding, cannot exceed. u is at least word / 2^32, and never below
  // half a unit.
  __device__ float bound(float logit, std::uint32_t word) const {
    constexpr float log_2 = 0.6931471805599453F;
    const float u = __uint2float_rd(word | 1U);
    return logit * inverse_temperature + (32 * log_2 - log_2 * __log2f(u));
  }

  __device__ float highest_bound(int column, const Pack<float, 4>& logits) const {
    const Philox noise = words(column);
    float highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float of_token = bound(logits.values[i], noise.word[i]);
      if (!limited || logits.values[i] >= least_logit) highest = fmaxf(highest, of_token);
    }
    return highest;
  }

  // The best of a quad's tokens whose bounds reach `least`.
  __device__ std::int64_t best_of(int column, float least) const {
    const Pack<float, 4> logits = quads.quad(row, column);
    const Philox noise = words(column);
    std::int64_t best = no_candidate;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float logit = logits.values[i];
      if (logit >= least_logit && bound(logit, noise.word[i]) >= least) {
        const float value = add_rn(mul_rn(logit, inverse_temperature), gumbel(noise.word[i]));
        const std::int64_t candidate = pack_candidate(value, quads.token(column) + i);
        best = candidate > best ? candidate : best;
      }
    }
    return best;
  }

  // The best candidate of the block's chunk, in one of its threads; elsewhere what loses to it, or
  // none. Every thread of the block calls it.
  __device__ std::int64_t best_of_chunk() const {
    float highest = -INFINITY;  // bound of this thread's quads
    float second = -INFINITY;   // of all but the highest
    int highest_column = 0;
    for_quads(quads, [&](int column, const Pack<float, 4>& logits) {
      if constexpr (limited) {
        bool any = false;
#pragma unroll
        for (int i = 0; i < 4; ++i) any |= logits.values[i] >= least_logit;
        if (!__any_sync(0xffffffffU, any)) return;
      }
      const float of_quad = highest_bound(column, logits);
      second = fmaxf(second, fminf(highest, of_quad));
      if (of_quad > highest) {
        highest = of_quad;
        highest_column = column;
      }
    });

    // The most promising quad first; then what could still beat it, which is seldom anything.
    __shared__ std::int32_t highest_key, best_key;
    const std::int32_t no_key = monotone_key(-INFINITY);
    if (threadIdx.x == 0) highest_key = best_key = no_key;
    __syncthreads();
    const std::int32_t of_warp = __reduce_max_sync(0xffffffffU, monotone_key(highest));
    if (threadIdx.x % warp_size == 0) atomicMax(&highest_key, of_warp);
    __syncthreads();
    if (highest_key == no_key) return no_candidate;
    std::int64_t best = no_candidate;
    const bool is_first = monotone_key(highest) == highest_key;
    if (is_first) {
      best = best_of(highest_column, -INFINITY);
      atomicMax(&best_key, monotone_key(candidate_value(best)));
    }
    __syncthreads();
    const float best_value = key_float(best_key);
    // By more than all roundings of values, noise and bounds.
    const float least =
        best_value == INFINITY ? INFINITY : best_value - (1e-3F + 1e-6F * fabsf(best_value));
    const auto look_at = [&](int column) {
      const std::int64_t found = best_of(column, least);
      best = found > best ? found : best;
    };
    if (highest >= least && !is_first) look_at(highest_column);
    if (second >= least) {
#pragma unroll 1
      for (int q = 0; q < quads_a_thread; ++q) look_at(column_of_quad(q));
    }
    return best;
  }
};

__device__ std::int64_t best_greedy(const LogitRows& rows, float least_logit) {
  float best_logit = -INFINITY;
  std::int64_t best = no_candidate;
  for_chunk(rows, [&](int column, float logit) {
    if (logit >= least_logit && logit > best_logit) {  // the first of equals has the lowest token
      best_logit = logit;
      best = pack_candidate(logit, static_cast<std::int32_t>(rows.begin + column));
    }
  });
  return best;
}

template <bool limited>
__global__ void __launch_bounds__(row_threads)
    draw_kernel(TokenQuads quads, DrawArgs args, std::int64_t* candidates) {
  const std::int64_t row = blockIdx.y;
  const float temperature = args.temperature[row];
  const std::int32_t threshold = args.thresholds != nullptr ? args.thresholds[row] : lowest_key;
  // As a float: keys order as floats do. -infinity itself is never drawn.
  const float least_logit = threshold <= monotone_key(-FLT_MAX) ? -FLT_MAX : key_float(threshold);
  std::int64_t best = no_candidate;
  if (temperature == 0) {
    best = best_greedy(quads.rows, least_logit);
  } else {
    const NoisyDraw<limited> draw{
        quads, row, args.noise_keys[row], args.positions[row], 1.0F / temperature, least_logit};
    best = draw.best_of_chunk();
  }
  if (__any_sync(0xffffffffU, best != no_candidate)) {
    best = warp_max(best);
    if (threadIdx.x % warp_size == 0) atomic_max(candidates + row, best);
  }
}

struct Unpack {
  std::int32_t* tokens;
  const std::int64_t* candidates;
  __device__ void operator()(int row) const { tokens[row] = candidate_token(candidates[row]); }
};

}  // namespace

void draw_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                     const DrawRows& rows, Stream stream) {
  cuda::fill_bytes(candidates.data(), 0xff, candidates.bytes(), stream);  // no_candidate
  if (shard.size == 0) return;
  const DrawArgs args{
      rows.temperature.as<float>(), rows.noise_keys.as<std::int64_t>(),
      rows.positions.as<std::int32_t>(),
      rows.thresholds.data() != nullptr ? rows.thresholds.as<std::int32_t>() : nullptr};
  const TokenQuads quads(logits, shard);
  const VocabShard whole_quads{shard.begin - quads.missing, shard.size + quads.missing};
  const auto kernel = args.thresholds != nullptr ? draw_kernel<true> : draw_kernel<false>;
  launch_on_chunks("draw_candidates", kernel, logits.size(0), whole_quads, stream, quads, args,
                   candidates.as<std::int64_t>());
}

void unpack_candidates(const TensorView& tokens, const TensorView& candidates, Stream stream) {
  for_each("unpack_candidates", tokens.size(0), stream,
           Unpack{tokens.as<std::int32_t>(), candidates.as<std::int64_t>()});
}

}  // namespace millrace::cuda
