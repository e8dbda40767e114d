// Sampling on CUDA: the thresholds of min-p, top-k and top-p.
#include <limits>

#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

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

}  // namespace

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

}  // namespace millrace::cuda
