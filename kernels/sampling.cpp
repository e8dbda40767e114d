#include "kernels/sampling.hpp"

#include <cmath>

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"
#include "kernels/sampling_math.hpp"

namespace millrace {
namespace {

constexpr std::int64_t max_candidates = 32;

void check_logits(const char* op, const TensorView& logits, VocabShard shard, Stream stream) {
  check_tensor(op, "logits", logits, DType::f32, {-1, -1});
  check_activation(op, "logits", logits, {-1, -1});
  check(shard.begin >= 0 && shard.size >= 0 && shard.size <= logits.size(1), op,
        "a shard of " + std::to_string(shard.size) + " tokens from " + std::to_string(shard.begin) +
            " in logits " + logits.describe());
  check_device(op, stream, {{"logits", logits}});
}

// One value per row.
void check_rows(const char* op, const char* name, const TensorView& tensor, DType dtype,
                std::int64_t rows, Stream stream) {
  check_tensor(op, name, tensor, dtype, {rows});
  check_device(op, stream, {{name, tensor}});
}

void check_edits(const char* op, const LogitEdits& edits, Stream stream) {
  const std::int64_t count = edits.rows.size(0);
  check_rows(op, "rows", edits.rows, DType::i32, count, stream);
  check_rows(op, "tokens", edits.tokens, DType::i32, count, stream);
  check_rows(op, "divide", edits.divide, DType::f32, count, stream);
  check_rows(op, "subtract", edits.subtract, DType::f32, count, stream);
  check_rows(op, "saved", edits.saved, DType::f32, count, stream);
}

void check_search(const char* op, const ThresholdSearch& search, const TensorView& histogram,
                  std::int64_t rows, int round, Stream stream) {
  const bool mass = search.kind == ThresholdKind::mass;
  check(round >= 0 && round < threshold_rounds, op, "round " + std::to_string(round));
  check_rows(op, "thresholds", search.thresholds, DType::i32, rows, stream);
  check_rows(op, "limits", search.limits, mass ? DType::f32 : DType::i32, rows, stream);
  check_rows(op, "prefixes", search.prefixes, DType::i32, rows, stream);
  check_rows(op, "remaining", search.remaining, DType::i64, rows, stream);
  if (mass) check_rows(op, "maxima", search.maxima, DType::f32, rows, stream);
  if (mass) check_rows(op, "temperature", search.temperature, DType::f32, rows, stream);
  check_tensor(op, "histogram", histogram, DType::i64, {rows, threshold_bins});
  check_contiguous(op, "histogram", histogram);
  check_device(op, stream, {{"histogram", histogram}});
}

}  // namespace

void apply_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits,
                 Stream stream) {
  constexpr auto op = "apply_edits";
  check_logits(op, logits, shard, stream);
  check_edits(op, edits, stream);
  if (edits.rows.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, apply_edits, logits, shard, edits, stream);
}

void undo_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits,
                Stream stream) {
  constexpr auto op = "undo_edits";
  check_logits(op, logits, shard, stream);
  check_edits(op, edits, stream);
  if (edits.rows.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, undo_edits, logits, shard, edits, stream);
}

void row_max(const TensorView& maxima, const TensorView& logits, VocabShard shard, Stream stream) {
  constexpr auto op = "row_max";
  check_logits(op, logits, shard, stream);
  check_rows(op, "maxima", maxima, DType::f32, logits.size(0), stream);
  if (maxima.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, row_max, maxima, logits, shard, stream);
}

void row_mass(const TensorView& masses, const TensorView& logits, VocabShard shard,
              const TensorView& maxima, Stream stream) {
  constexpr auto op = "row_mass";
  check_logits(op, logits, shard, stream);
  check_rows(op, "masses", masses, DType::i64, logits.size(0), stream);
  check_rows(op, "maxima", maxima, DType::f32, logits.size(0), stream);
  if (masses.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, row_mass, masses, logits, shard, maxima, stream);
}

float log_probability(float logit, float maximum, std::int64_t mass) {
  const double log_sum = std::log(static_cast<double>(mass)) - mass_bits * std::log(2.0);
  return static_cast<float>(static_cast<double>(logit) - static_cast<double>(maximum) - log_sum);
}

void top_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                    Stream stream) {
  constexpr auto op = "top_candidates";
  check_logits(op, logits, shard, stream);
  check_tensor(op, "candidates", candidates, DType::i64, {logits.size(0), -1});
  check_contiguous(op, "candidates", candidates);
  check(candidates.size(1) <= max_candidates, op,
        "candidates is " + candidates.describe() + ", at most 32 wide");
  check_device(op, stream, {{"candidates", candidates}});
  if (candidates.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, top_candidates, candidates, logits, shard, stream);
}

void merge_candidates(const TensorView& candidates, const TensorView& gathered, Stream stream) {
  constexpr auto op = "merge_candidates";
  check_tensor(op, "candidates", candidates, DType::i64, {-1, -1});
  check_tensor(op, "gathered", gathered, DType::i64, {-1, candidates.size(0), candidates.size(1)});
  check_contiguous(op, "candidates", candidates);
  check_contiguous(op, "gathered", gathered);
  check(candidates.size(1) <= max_candidates, op,
        "candidates is " + candidates.describe() + ", at most 32 wide");
  check_device(op, stream, {{"candidates", candidates}, {"gathered", gathered}});
  if (candidates.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, merge_candidates, candidates, gathered, stream);
}

void min_p_thresholds(const TensorView& thresholds, const TensorView& maxima,
                      const TensorView& temperature, const TensorView& min_p, Stream stream) {
  constexpr auto op = "min_p_thresholds";
  check_rows(op, "thresholds", thresholds, DType::i32, maxima.size(0), stream);
  check_rows(op, "maxima", maxima, DType::f32, maxima.size(0), stream);
  check_rows(op, "temperature", temperature, DType::f32, maxima.size(0), stream);
  check_rows(op, "min_p", min_p, DType::f32, maxima.size(0), stream);
  if (thresholds.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, min_p_thresholds, thresholds, maxima, temperature, min_p,
                    stream);
}

void threshold_histogram(const TensorView& histogram, const TensorView& logits, VocabShard shard,
                         const ThresholdSearch& search, int round, Stream stream) {
  constexpr auto op = "threshold_histogram";
  check_logits(op, logits, shard, stream);
  check_search(op, search, histogram, logits.size(0), round, stream);
  if (histogram.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, threshold_histogram, histogram, logits, shard, search, round,
                    stream);
}

void threshold_narrow(const ThresholdSearch& search, const TensorView& histogram, int round,
                      Stream stream) {
  check_search("threshold_narrow", search, histogram, search.thresholds.size(0), round, stream);
  if (histogram.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, threshold_narrow, search, histogram, round, stream);
}

void draw_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                     const DrawRows& rows, Stream stream) {
  constexpr auto op = "draw_candidates";
  check_logits(op, logits, shard, stream);
  check_rows(op, "candidates", candidates, DType::i64, logits.size(0), stream);
  check_rows(op, "temperature", rows.temperature, DType::f32, logits.size(0), stream);
  check_rows(op, "noise_keys", rows.noise_keys, DType::i64, logits.size(0), stream);
  check_rows(op, "positions", rows.positions, DType::i32, logits.size(0), stream);
  if (rows.thresholds.data() != nullptr) {
    check_rows(op, "thresholds", rows.thresholds, DType::i32, logits.size(0), stream);
  }
  if (candidates.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, draw_candidates, candidates, logits, shard, rows, stream);
}

void unpack_candidates(const TensorView& tokens, const TensorView& candidates, Stream stream) {
  constexpr auto op = "unpack_candidates";
  check_rows(op, "candidates", candidates, DType::i64, candidates.size(0), stream);
  check_rows(op, "tokens", tokens, DType::i32, candidates.size(0), stream);
  if (tokens.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, unpack_candidates, tokens, candidates, stream);
}

void pick_logits(const TensorView& values, const TensorView& logits, VocabShard shard,
                 const TensorView& tokens, Stream stream) {
  constexpr auto op = "pick_logits";
  check_logits(op, logits, shard, stream);
  check_rows(op, "values", values, DType::f32, logits.size(0), stream);
  check_rows(op, "tokens", tokens, DType::i32, logits.size(0), stream);
  if (values.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, pick_logits, values, logits, shard, tokens, stream);
}

void count_at_least(const TensorView& counts, const TensorView& logits, VocabShard shard,
                    const TensorView& values, Stream stream) {
  constexpr auto op = "count_at_least";
  check_logits(op, logits, shard, stream);
  check_rows(op, "counts", counts, DType::i64, logits.size(0), stream);
  check_rows(op, "values", values, DType::f32, logits.size(0), stream);
  if (counts.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, count_at_least, counts, logits, shard, values, stream);
}

}  // namespace millrace
