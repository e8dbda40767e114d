// Sampling on CUDA: edits of logits, and maxima, masses and counts of rows. Thresholds, draws and
// the best candidates have files of their own (sampling_*_cuda.cu). One pass over the logits for
// each part of sampling.hpp, in the arithmetic of sampling_math.hpp, so that results are the CPU's
// bit for bit.
#include "kernels/sampling.hpp"

#include <limits>

#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

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

void pick_logits(const TensorView& values, const TensorView& logits, VocabShard shard,
                 const TensorView& tokens, Stream stream) {
  for_each("pick_logits", tokens.size(0), stream,
           Pick{values.as<float>(), LogitRows(logits, shard), tokens.as<std::int32_t>()});
}

}  // namespace millrace::cuda
