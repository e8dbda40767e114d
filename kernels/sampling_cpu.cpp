// Rows, and parts of long rows, are spread over threads: the results are maxima and integer sums,
// which come out the same however a row is cut. What touches every logit is in
// kernels/simd/sampling_tiles.hpp.
#include "kernels/base/team.hpp"
#include "kernels/sampling.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/sampling_math.hpp"
#include "kernels/simd/isa.hpp"
#include "kernels/simd/sampling_tiles.hpp"

namespace millrace::cpu {
namespace {

constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();
constexpr float infinity = std::numeric_limits<float>::infinity();

float* row(const TensorView& logits, std::int64_t r) {
  return logits.as<float>() + r * logits.stride(0);
}

// The logit an edit names, or nullptr when this shard does not hold it.
float* edited(const TensorView& logits, VocabShard shard, const LogitEdits& edits, std::int64_t e) {
  const std::int64_t r = edits.rows.as<std::int32_t>()[e];
  const std::int64_t column = edits.tokens.as<std::int32_t>()[e] - shard.begin;
  return r < 0 || column < 0 || column >= shard.size ? nullptr : row(logits, r) + column;
}

// Calls body(r) for every row, rows spread over threads when the work, `nanoseconds` of one thread,
// is worth it.
template <typename Body>
void for_rows(std::int64_t rows, std::int64_t nanoseconds, Body body) {
#pragma omp parallel for schedule(dynamic) if (worth_a_team(rows, nanoseconds))
  for (std::int64_t r = 0; r < rows; ++r) body(r);
}

const SamplingTiles& active_tiles() {
#ifdef __x86_64__
  if (active_isa() == Isa::avx512) return avx512::sampling_tiles;
  if (active_isa() == Isa::avx2) return avx2::sampling_tiles;
#endif
  return portable::sampling_tiles;
}

// results[r] = combine over parts [begin, end) of row r of part(r, begin, end), work of
// `nanoseconds` for one thread.
template <typename T, typename Part, typename Combine>
void reduce_rows(T* results, std::int64_t rows, std::int64_t size, std::int64_t nanoseconds,
                 Part part, Combine combine) {
  constexpr std::int64_t shortest = 8192;  // below that, starting a thread costs more than it saves
  const std::int64_t threads = omp_get_max_threads();
  const std::int64_t parts =
      std::clamp<std::int64_t>(std::min((2 * threads + rows - 1) / rows, size / shortest), 1,
                               std::max<std::int64_t>(threads, 1));
  std::vector<T> found(static_cast<std::size_t>(rows * parts));
#pragma omp parallel for schedule(dynamic) if (worth_a_team(rows * parts, nanoseconds))
  for (std::int64_t i = 0; i < rows * parts; ++i) {
    const std::int64_t p = i % parts;
    found[static_cast<std::size_t>(i)] = part(i / parts, size * p / parts, size * (p + 1) / parts);
  }
  for (std::int64_t i = 0; i < rows * parts; ++i) {
    T& result = results[i / parts];
    result = i % parts == 0 ? found[static_cast<std::size_t>(i)]
                            : combine(result, found[static_cast<std::size_t>(i)]);
  }
}

std::int64_t sum(std::int64_t a, std::int64_t b) { return a + b; }

// Keeps the k best of a list, best first.
void insert(std::int64_t* best, std::int64_t k, std::int64_t candidate) {
  if (candidate <= best[k - 1]) return;
  std::int64_t place = k - 1;
  for (; place > 0 && best[place - 1] < candidate; --place) best[place] = best[place - 1];
  best[place] = candidate;
}

}  // namespace

void apply_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits, Stream) {
  for (std::int64_t e = 0; e < edits.rows.size(0); ++e) {
    float* logit = edited(logits, shard, edits, e);
    if (logit == nullptr) continue;
    edits.saved.as<float>()[e] = *logit;
    const float divide = edits.divide.as<float>()[e];
    const float scaled = *logit > 0 ? *logit / divide : *logit * divide;
    *logit = scaled - edits.subtract.as<float>()[e];
  }
}

void undo_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits, Stream) {
  for (std::int64_t e = 0; e < edits.rows.size(0); ++e) {
    float* logit = edited(logits, shard, edits, e);
    if (logit != nullptr) *logit = edits.saved.as<float>()[e];
  }
}

void row_max(const TensorView& maxima, const TensorView& logits, VocabShard shard, Stream) {
  const SamplingTiles& tiles = active_tiles();
  reduce_rows(
      maxima.as<float>(), logits.size(0), shard.size, logits.size(0) * shard.size / 16,
      [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
        return tiles.largest(row(logits, r) + begin, end - begin);
      },
      [](float a, float b) { return std::max(a, b); });
}

void row_mass(const TensorView& masses, const TensorView& logits, VocabShard shard,
              const TensorView& maxima, Stream) {
  const SamplingTiles& tiles = active_tiles();
  reduce_rows(
      masses.as<std::int64_t>(), logits.size(0), shard.size, logits.size(0) * shard.size / 2,
      [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
        return tiles.total_mass(row(logits, r) + begin, end - begin, maxima.as<float>()[r], 1.0F);
      },
      sum);
}

void top_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                    Stream) {
  const std::int64_t k = candidates.size(1);
  for_rows(logits.size(0), logits.size(0) * shard.size, [&](std::int64_t r) {
    const float* x = row(logits, r);
    std::int64_t* best = candidates.as<std::int64_t>() + r * k;
    std::fill_n(best, k, no_candidate);
    for (std::int64_t j = 0; j < shard.size; ++j) {
      if (x[j] > -infinity)
        insert(best, k, pack_candidate(x[j], static_cast<std::int32_t>(shard.begin + j)));
    }
  });
}

void merge_candidates(const TensorView& candidates, const TensorView& gathered, Stream) {
  const std::int64_t k = candidates.size(1);
  for (std::int64_t r = 0; r < candidates.size(0); ++r) {
    std::int64_t* best = candidates.as<std::int64_t>() + r * k;
    std::fill_n(best, k, no_candidate);
    for (std::int64_t rank = 0; rank < gathered.size(0); ++rank) {
      const std::int64_t* from = gathered.as<std::int64_t>() + rank * gathered.stride(0) + r * k;
      for (std::int64_t i = 0; i < k; ++i) insert(best, k, from[i]);
    }
  }
}

void min_p_thresholds(const TensorView& thresholds, const TensorView& maxima,
                      const TensorView& temperature, const TensorView& min_p, Stream) {
  for (std::int64_t r = 0; r < thresholds.size(0); ++r) {
    const float p = min_p.as<float>()[r];
    const float t = temperature.as<float>()[r];
    thresholds.as<std::int32_t>()[r] =
        p > 0 && t > 0 ? monotone_key(add_rn(maxima.as<float>()[r], mul_rn(t, log_rn(p))))
                       : lowest_key;
  }
}

void threshold_histogram(const TensorView& histogram, const TensorView& logits, VocabShard shard,
                         const ThresholdSearch& search, int round, Stream) {
  const SamplingTiles& tiles = active_tiles();
  const bool by_mass = search.kind == ThresholdKind::mass;
  const std::int64_t nanoseconds = logits.size(0) * (shard.size + threshold_bins) / 2;
  for_rows(logits.size(0), nanoseconds, [&](std::int64_t r) {
    std::int64_t* bins = histogram.as<std::int64_t>() + r * threshold_bins;
    std::fill_n(bins, threshold_bins, 0);
    const float temperature = by_mass ? search.temperature.as<float>()[r] : 1.0F;
    if (temperature == 0) return;
    tiles.histogram(
        bins, row(logits, r), shard.size, by_mass, by_mass ? search.maxima.as<float>()[r] : 0.0F,
        1.0F / temperature, search.thresholds.as<std::int32_t>()[r],
        static_cast<std::uint32_t>(search.prefixes.as<std::int32_t>()[r]), 24 - 8 * round);
  });
}

void threshold_narrow(const ThresholdSearch& search, const TensorView& histogram, int round,
                      Stream) {
  for (std::int64_t r = 0; r < search.thresholds.size(0); ++r) {
    const std::int64_t* bins = histogram.as<std::int64_t>() + r * threshold_bins;
    std::int64_t remaining = search.remaining.as<std::int64_t>()[r];
    auto prefix = static_cast<std::uint32_t>(search.prefixes.as<std::int32_t>()[r]);
    if (round == 0) {
      prefix = 0;
      remaining = unlimited;
      if (search.kind == ThresholdKind::count) {
        const std::int32_t top_k = search.limits.as<std::int32_t>()[r];
        if (top_k > 0) remaining = top_k;
      } else if (const float top_p = search.limits.as<float>()[r]; top_p < 1) {
        std::int64_t total = 0;
        for (int bin = 0; bin < threshold_bins; ++bin) total += bins[bin];
        const double wanted = static_cast<double>(top_p) * static_cast<double>(total);
        remaining = std::max<std::int64_t>(static_cast<std::int64_t>(std::ceil(wanted)), 1);
      }
    }
    int bin = threshold_bins - 1;
    while (bin > 0 && bins[bin] < remaining) remaining -= bins[bin--];
    prefix |= static_cast<std::uint32_t>(bin) << (24 - 8 * round);
    search.remaining.as<std::int64_t>()[r] = remaining;
    search.prefixes.as<std::int32_t>()[r] = static_cast<std::int32_t>(prefix);
    if (round == threshold_rounds - 1) {
      const auto found = static_cast<std::int32_t>(prefix ^ 0x80000000U);
      std::int32_t& threshold = search.thresholds.as<std::int32_t>()[r];
      threshold = std::max(threshold, found);
    }
  }
}

void draw_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                     const DrawRows& rows, Stream) {
  const SamplingTiles& tiles = active_tiles();
  std::int64_t nanoseconds = 0;
  for (std::int64_t r = 0; r < logits.size(0); ++r) {
    nanoseconds += rows.temperature.as<float>()[r] == 0 ? shard.size / 4 : shard.size * 2;
  }
  reduce_rows(
      candidates.as<std::int64_t>(), logits.size(0), shard.size, nanoseconds,
      [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
        const float temperature = rows.temperature.as<float>()[r];
        const RowDraw draw{
            temperature == 0 ? 0.0F : 1.0F / temperature, rows.noise_keys.as<std::int64_t>()[r],
            rows.positions.as<std::int32_t>()[r],
            rows.thresholds.data() != nullptr ? rows.thresholds.as<std::int32_t>()[r] : lowest_key};
        return tiles.draw(row(logits, r) + begin, end - begin, shard.begin + begin, draw);
      },
      [](std::int64_t a, std::int64_t b) { return std::max(a, b); });
}

void unpack_candidates(const TensorView& tokens, const TensorView& candidates, Stream) {
  for (std::int64_t r = 0; r < tokens.size(0); ++r) {
    tokens.as<std::int32_t>()[r] = candidate_token(candidates.as<std::int64_t>()[r]);
  }
}

void pick_logits(const TensorView& values, const TensorView& logits, VocabShard shard,
                 const TensorView& tokens, Stream) {
  for (std::int64_t r = 0; r < tokens.size(0); ++r) {
    const std::int64_t column = tokens.as<std::int32_t>()[r] - shard.begin;
    const bool here = column >= 0 && column < shard.size;
    values.as<float>()[r] = here ? row(logits, r)[column] : -infinity;
  }
}

void count_at_least(const TensorView& counts, const TensorView& logits, VocabShard shard,
                    const TensorView& values, Stream) {
  reduce_rows(
      counts.as<std::int64_t>(), logits.size(0), shard.size, logits.size(0) * shard.size / 2,
      [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
        const float* x = row(logits, r);
        const float value = values.as<float>()[r];
        std::int64_t count = 0;
        for (std::int64_t j = begin; j < end; ++j) count += x[j] >= value ? 1 : 0;
        return count;
      },
      sum);
}

}  // namespace millrace::cpu
