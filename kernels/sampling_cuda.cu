// Sampling on CUDA: one pass over the logits for each part of sampling.hpp, in the arithmetic of
// sampling_math.hpp, so that results are the CPU's bit for bit.
#include "kernels/sampling.hpp"

#include <cfloat>
#include <limits>

#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

// One thread for each of `count` independent small things.
template <typename Body>
__global__ void each_kernel(Body body, int count) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index < count) body(index);
}

template <typename Body>
void for_each(const char* op, std::int64_t count, Stream stream, const Body& body) {
  if (count == 0) return;
  each_kernel<<<static_cast<unsigned>(ceil_div(count, 128)), 128, 0, native(stream)>>>(
      body, static_cast<int>(count));
  check_launch(op);
}

struct EditArgs {
  LogitRows rows;
  const std::int32_t* edit_rows;
  const std::int32_t* tokens;
  const float* divide;
  const float* subtract;
  float* saved;

  EditArgs(const TensorView& logits, VocabShard shard, const LogitEdits& edits)
      : rows(logits, shard),
        edit_rows(edits.rows.as<std::int32_t>()),
        tokens(edits.tokens.as<std::int32_t>()),
        divide(edits.divide.as<float>()),
        subtract(edits.subtract.as<float>()),
        saved(edits.saved.as<float>()) {}

  // The logit that an edit names, or nullptr when this shard does not hold it.
  __device__ float* logit(int edit) const {
    const std::int64_t column = tokens[edit] - rows.begin;
    if (edit_rows[edit] < 0 || column < 0 || column >= rows.size) return nullptr;
    return rows.logits.row(edit_rows[edit]) + column;
  }
};

struct ApplyEdit {
  EditArgs args;
  __device__ void operator()(int edit) const {
    float* logit = args.logit(edit);
    if (logit == nullptr) return;
    args.saved[edit] = *logit;
    const float scaled =
        *logit > 0 ? __fdiv_rn(*logit, args.divide[edit]) : mul_rn(*logit, args.divide[edit]);
    *logit = add_rn(scaled, -args.subtract[edit]);
  }
};

struct UndoEdit {
  EditArgs args;
  __device__ void operator()(int edit) const {
    float* logit = args.logit(edit);
    if (logit != nullptr) *logit = args.saved[edit];
  }
};

struct Fill {
  float* to;
  float value;
  __device__ void operator()(int index) const { to[index] = value; }
};

__global__ void __launch_bounds__(row_threads) row_max_kernel(LogitRows rows, float* maxima) {
  float largest = -INFINITY;
  for_chunk(rows, [&](int, float logit) { largest = logit > largest ? logit : largest; });
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, step));
  }
  if (threadIdx.x % warp_size == 0 && largest > -INFINITY) atomic_max(maxima + blockIdx.y, largest);
}

__global__ void __launch_bounds__(row_threads)
    row_mass_kernel(LogitRows rows, const float* maxima, std::int64_t* masses) {
  const float largest = maxima[blockIdx.y];
  std::int64_t total = 0;
  for_chunk(rows, [&](int, float logit) {
    if (logit > -INFINITY) total += mass(add_rn(logit, -largest));
  });
  total = warp_total(total);
  if (threadIdx.x % warp_size == 0 && total != 0) atomic_add(masses + blockIdx.y, total);
}

__global__ void __launch_bounds__(row_threads)
    count_kernel(LogitRows rows, const float* values, std::int64_t* counts) {
  const float value = values[blockIdx.y];
  int count = 0;
  for_chunk(rows, [&](int, float logit) { count += logit >= value ? 1 : 0; });
  count = __reduce_add_sync(0xffffffffU, count);
  if (threadIdx.x % warp_size == 0 && count != 0) atomic_add(counts + blockIdx.y, count);
}

struct SearchArgs {
  bool by_mass;
  std::int32_t* thresholds;
  const void* limits;
  const float* maxima;
  const float* temperature;
  std::int32_t* prefixes;
  std::int64_t* remaining;

  explicit SearchArgs(const ThresholdSearch& search)
      : by_mass(search.kind == ThresholdKind::mass),
        thresholds(search.thresholds.as<std::int32_t>()),
        limits(search.limits.data()),
        maxima(by_mass ? search.maxima.as<float>() : nullptr),
        temperature(by_mass ? search.temperature.as<float>() : nullptr),
        prefixes(search.prefixes.as<std::int32_t>()),
        remaining(search.remaining.as<std::int64_t>()) {}
};

// A block's bins. Shared memory adds 32-bit words at once but not 64-bit ones, so a mass of up to
// 41 bits goes in as three parts of 18 bits, whose sums over a chunk of 2^13 columns stay below
// 2^32.
struct Bins {
  static constexpr int part_bits = 18;
  static constexpr std::int64_t part_mask = (1 << part_bits) - 1;
  static_assert(chunk_columns <= 1 << 13);
  unsigned parts[3][threshold_bins];

  __device__ void add(unsigned bin, std::int64_t weight) {
#pragma unroll
    for (int part = 0; part < 3; ++part) {
      const auto bits = static_cast<unsigned>((weight >> (part * part_bits)) & part_mask);
      if (bits != 0) atomicAdd(&parts[part][bin], bits);
    }
  }
  __device__ std::int64_t total(int bin) const {
    return parts[0][bin] + (static_cast<std::int64_t>(parts[1][bin]) << part_bits) +
           (static_cast<std::int64_t>(parts[2][bin]) << (2 * part_bits));
  }
};

__global__ void __launch_bounds__(row_threads)
    histogram_kernel(LogitRows rows, SearchArgs search, int round, std::int64_t* histogram) {
  static_assert(row_threads == threshold_bins);
  __shared__ Bins bins;
#pragma unroll
  for (int part = 0; part < 3; ++part) bins.parts[part][threadIdx.x] = 0;
  __syncthreads();
  const std::int64_t row = blockIdx.y;
  const float temperature = search.by_mass ? search.temperature[row] : 1.0F;
  if (temperature == 0) return;  // for all threads alike
  const float inverse = 1.0F / temperature;
  const float largest = search.by_mass ? search.maxima[row] : 0.0F;
  const std::int32_t threshold = search.thresholds[row];
  const auto prefix = static_cast<unsigned>(search.prefixes[row]);
  const int shift = 24 - 8 * round;
  for_chunk(rows, [&](int, float logit) {
    const std::int32_t key = monotone_key(logit);
    if (!(logit > -INFINITY) || key < threshold) return;
    const unsigned order = static_cast<unsigned>(key) ^ 0x80000000U;
    if (round > 0 && (order ^ prefix) >> (shift + 8) != 0) return;
    const std::int64_t weight = search.by_mass ? mass(mul_rn(add_rn(logit, -largest), inverse)) : 1;
    bins.add((order >> shift) & 0xffU, weight);
  });
  __syncthreads();
  const std::int64_t total = bins.total(static_cast<int>(threadIdx.x));
  if (total != 0) atomic_add(histogram + row * threshold_bins + threadIdx.x, total);
}

// One warp a row; lane l looks at bins 255 - 8 l down to 248 - 8 l.
__global__ void narrow_kernel(SearchArgs search, const std::int64_t* histogram, int round) {
  constexpr int bins_a_lane = threshold_bins / warp_size;
  const std::int64_t row = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t* bins = histogram + row * threshold_bins;
  std::int64_t own[bins_a_lane];
  std::int64_t through = 0;
#pragma unroll
  for (int i = 0; i < bins_a_lane; ++i) {
    own[i] = bins[threshold_bins - 1 - lane * bins_a_lane - i];
    through += own[i];
  }
  const std::int64_t own_total = through;
#pragma unroll
  for (int step = 1; step < warp_size; step *= 2) {
    const std::int64_t before = __shfl_up_sync(0xffffffffU, through, step);
    if (lane >= step) through += before;
  }
  const std::int64_t total = __shfl_sync(0xffffffffU, through, warp_size - 1);

  std::int64_t remaining = search.remaining[row];
  auto prefix = static_cast<unsigned>(search.prefixes[row]);
  if (round == 0) {
    prefix = 0;
    remaining = unlimited;
    if (search.by_mass) {
      const float top_p = static_cast<const float*>(search.limits)[row];
      if (top_p < 1) {
        const double wanted = __dmul_rn(static_cast<double>(top_p), static_cast<double>(total));
        const auto units = static_cast<std::int64_t>(ceil(wanted));
        remaining = units > 1 ? units : 1;
      }
    } else {
      const std::int32_t top_k = static_cast<const std::int32_t*>(search.limits)[row];
      if (top_k > 0) remaining = top_k;
    }
  }

  // The first bin, from the top, at which the weight is reached; the lowest when it never is.
  const bool reached = through >= remaining;
  const unsigned lanes = __ballot_sync(0xffffffffU, reached);
  const int finder = lanes != 0 ? __ffs(static_cast<int>(lanes)) - 1 : warp_size - 1;
  if (lane != finder) return;
  remaining -= through - own_total;
  int i = 0;
  while (i < bins_a_lane - 1 && own[i] < remaining) remaining -= own[i++];
  const int bin = threshold_bins - 1 - lane * bins_a_lane - i;
  prefix |= static_cast<unsigned>(bin) << (24 - 8 * round);
  search.remaining[row] = remaining;
  search.prefixes[row] = static_cast<std::int32_t>(prefix);
  if (round == threshold_rounds - 1) {
    const auto found = static_cast<std::int32_t>(prefix ^ 0x80000000U);
    if (found > search.thresholds[row]) search.thresholds[row] = found;
  }
}

struct MinPThreshold {
  std::int32_t* thresholds;
  const float* maxima;
  const float* temperature;
  const float* min_p;
  __device__ void operator()(int row) const {
    const float p = min_p[row];
    const float t = temperature[row];
    thresholds[row] =
        p > 0 && t > 0 ? monotone_key(add_rn(maxima[row], mul_rn(t, log_rn(p)))) : lowest_key;
  }
};

struct DrawArgs {
  const float* temperature;
  const std::int64_t* noise_keys;
  const std::int32_t* positions;
  const std::int32_t* thresholds;  // nullptr: every token can be drawn
};

// One row's draw. A token's noise is -log(-log(1 - u)) < -log(u): one logarithm of the chip's own
// gives a bound that tells for nearly every token that it cannot beat `best`, so that its noise
// need not be computed exactly.
struct Draw {
  std::int64_t noise_key;
  std::int32_t position;
  float inverse_temperature;
  float best_value = -INFINITY;  // of the warp so far
  std::int64_t best = no_candidate;

  __device__ void take_greedy(std::int32_t token, float logit) {
    if (logit > best_value) {  // the first of equals has the lowest token
      best_value = logit;
      best = pack_candidate(logit, token);
    }
  }

  __device__ void take(std::int32_t token, float logit, std::uint32_t word) {
    const float value = add_rn(mul_rn(logit, inverse_temperature), gumbel(word));
    const std::int64_t candidate = pack_candidate(value, token);
    best = candidate > best ? candidate : best;
    best_value = fmaxf(best_value, value);
  }

  __device__ void share_best_value() {
    best_value = key_float(__reduce_max_sync(0xffffffffU, monotone_key(best_value)));
  }

  // Four tokens of one quad of noise words; those that cannot be drawn are -infinity.
  __device__ void take_quad(std::int32_t token, const float (&logits)[4]) {
    constexpr float log_2 = 0.6931471805599453F;
    constexpr float log_of_words = 32 * log_2;
    const Philox words = noise_words(noise_key, position, token >> 2);
    float bounds[4];
    float highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // u is at least word / 2^32, and never below half a unit.
      const float u = __uint2float_rd(words.word[i] | 1U);
      bounds[i] = logits[i] * inverse_temperature + (log_of_words - log_2 * __log2f(u));
      highest = fmaxf(highest, bounds[i]);
    }
    if (best_value == -INFINITY) {
      // Nothing to compare with yet: the most promising token of the warp first.
      const float of_warp = key_float(__reduce_max_sync(0xffffffffU, monotone_key(highest)));
      if (of_warp == -INFINITY) return;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (bounds[i] == of_warp) take(token + i, logits[i], words.word[i]);
      }
      share_best_value();
    }
    // More than all roundings of values, noise and bounds.
    const float least = best_value - (1e-3F + 1e-6F * fabsf(best_value));
    if (__any_sync(0xffffffffU, highest >= least)) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (bounds[i] >= least && logits[i] > -INFINITY) take(token + i, logits[i], words.word[i]);
      }
      share_best_value();
    }
  }
};

__global__ void __launch_bounds__(row_threads)
    draw_kernel(LogitRows rows, DrawArgs args, std::int64_t* candidates) {
  const std::int64_t row = blockIdx.y;
  const float temperature = args.temperature[row];
  const std::int32_t threshold = args.thresholds != nullptr ? args.thresholds[row] : lowest_key;
  // As a float: keys order as floats do. -infinity itself is never drawn.
  const float least = threshold <= monotone_key(-FLT_MAX) ? -FLT_MAX : key_float(threshold);
  Draw draw{args.noise_keys[row], args.positions[row],
            temperature == 0 ? 1.0F : 1.0F / temperature};
  if (temperature == 0) {
    for_chunk(rows, [&](int column, float logit) {
      if (logit >= least) draw.take_greedy(static_cast<std::int32_t>(rows.begin + column), logit);
    });
  } else if (rows.begin % 4 == 0) {
    for_quads(rows, [&](int column, const Pack<float, 4>& quad) {
      float logits[4];
      bool any = false;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        logits[i] = quad.values[i] >= least ? quad.values[i] : -INFINITY;
        any |= quad.values[i] >= least;
      }
      if (__any_sync(0xffffffffU, any)) {
        draw.take_quad(static_cast<std::int32_t>(rows.begin + column), logits);
      }
    });
  } else {
    // The shard begins inside a quad of noise words: its columns are taken one by one.
    for_chunk(rows, [&](int column, float logit) {
      const auto token = static_cast<std::int32_t>(rows.begin + column);
      float logits[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
      logits[token & 3] = logit >= least ? logit : -INFINITY;
      draw.take_quad(token & ~3, logits);
    });
  }
  const std::int64_t best = warp_max(draw.best);
  if (threadIdx.x % warp_size == 0 && best != no_candidate) atomic_max(candidates + row, best);
}

struct Unpack {
  std::int32_t* tokens;
  const std::int64_t* candidates;
  __device__ void operator()(int row) const { tokens[row] = candidate_token(candidates[row]); }
};

struct Pick {
  float* values;
  LogitRows rows;
  const std::int32_t* tokens;
  __device__ void operator()(int row) const {
    const std::int64_t column = tokens[row] - rows.begin;
    const bool here = column >= 0 && column < rows.size;
    values[row] = here ? rows.logits.row(row)[column] : -INFINITY;
  }
};

}  // namespace

void apply_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits,
                 Stream stream) {
  for_each("apply_edits", edits.rows.size(0), stream, ApplyEdit{{logits, shard, edits}});
}

void undo_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits,
                Stream stream) {
  for_each("undo_edits", edits.rows.size(0), stream, UndoEdit{{logits, shard, edits}});
}

void row_max(const TensorView& maxima, const TensorView& logits, VocabShard shard, Stream stream) {
  const std::int64_t rows = logits.size(0);
  for_each("row_max", rows, stream,
           Fill{maxima.as<float>(), -std::numeric_limits<float>::infinity()});
  launch_on_chunks("row_max", row_max_kernel, rows, shard, stream, LogitRows(logits, shard),
                   maxima.as<float>());
}

void row_mass(const TensorView& masses, const TensorView& logits, VocabShard shard,
              const TensorView& maxima, Stream stream) {
  cuda::fill_bytes(masses.data(), 0, masses.bytes(), stream);
  launch_on_chunks("row_mass", row_mass_kernel, logits.size(0), shard, stream,
                   LogitRows(logits, shard), maxima.as<float>(), masses.as<std::int64_t>());
}

void count_at_least(const TensorView& counts, const TensorView& logits, VocabShard shard,
                    const TensorView& values, Stream stream) {
  cuda::fill_bytes(counts.data(), 0, counts.bytes(), stream);
  launch_on_chunks("count_at_least", count_kernel, logits.size(0), shard, stream,
                   LogitRows(logits, shard), values.as<float>(), counts.as<std::int64_t>());
}

void min_p_thresholds(const TensorView& thresholds, const TensorView& maxima,
                      const TensorView& temperature, const TensorView& min_p, Stream stream) {
  for_each("min_p_thresholds", thresholds.size(0), stream,
           MinPThreshold{thresholds.as<std::int32_t>(), maxima.as<float>(), temperature.as<float>(),
                         min_p.as<float>()});
}

void threshold_histogram(const TensorView& histogram, const TensorView& logits, VocabShard shard,
                         const ThresholdSearch& search, int round, Stream stream) {
  cuda::fill_bytes(histogram.data(), 0, histogram.bytes(), stream);
  launch_on_chunks("threshold_histogram", histogram_kernel, logits.size(0), shard, stream,
                   LogitRows(logits, shard), SearchArgs(search), round,
                   histogram.as<std::int64_t>());
}

void threshold_narrow(const ThresholdSearch& search, const TensorView& histogram, int round,
                      Stream stream) {
  const auto rows = static_cast<unsigned>(search.thresholds.size(0));
  if (rows == 0) return;
  narrow_kernel<<<rows, warp_size, 0, native(stream)>>>(SearchArgs(search),
                                                        histogram.as<std::int64_t>(), round);
  check_launch("threshold_narrow");
}

void draw_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                     const DrawRows& rows, Stream stream) {
  cuda::fill_bytes(candidates.data(), 0xff, candidates.bytes(), stream);  // no_candidate
  const DrawArgs args{
      rows.temperature.as<float>(), rows.noise_keys.as<std::int64_t>(),
      rows.positions.as<std::int32_t>(),
      rows.thresholds.data() != nullptr ? rows.thresholds.as<std::int32_t>() : nullptr};
  launch_on_chunks("draw_candidates", draw_kernel, logits.size(0), shard, stream,
                   LogitRows(logits, shard), args, candidates.as<std::int64_t>());
}

void unpack_candidates(const TensorView& tokens, const TensorView& candidates, Stream stream) {
  for_each("unpack_candidates", tokens.size(0), stream,
           Unpack{tokens.as<std::int32_t>(), candidates.as<std::int64_t>()});
}

void pick_logits(const TensorView& values, const TensorView& logits, VocabShard shard,
                 const TensorView& tokens, Stream stream) {
  for_each("pick_logits", tokens.size(0), stream,
           Pick{values.as<float>(), LogitRows(logits, shard), tokens.as<std::int32_t>()});
}

}  // namespace millrace::cuda
