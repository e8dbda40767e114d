#include "core/engine/device_batch.hpp"

#include <algorithm>
#include <vector>

namespace millrace {

namespace {

std::size_t staging_bytes(const BatchLimits& limits) {
  constexpr std::int64_t arrays = 9;
  constexpr std::int64_t slack = 16;  // bytes, for each array's alignment
  const std::int64_t numbers =
      4 * limits.tokens + (4 + limits.blocks_per_sequence) * limits.sequences + 1;
  return static_cast<std::size_t>(4 * numbers + arrays * slack);
}

// `values` and `padding` times `filler` behind them.
TensorView place(StagedUpload& staging, const std::vector<std::int32_t>& values,
                 std::int64_t padding, std::int32_t filler) {
  const std::int64_t count = static_cast<std::int64_t>(values.size()) + padding;
  TensorView view;
  auto* to = staging.put<std::int32_t>(count, DType::i32, {count}, view);
  std::fill_n(std::copy(values.begin(), values.end(), to), padding, filler);
  return view;
}

}  // namespace

DeviceBatch::DeviceBatch(const BatchLimits& limits, Device device)
    : limits_(limits), staging_(staging_bytes(limits), device) {}

void DeviceBatch::upload(const BatchPlan& plan, Stream stream) {
  place_arrays(plan, 0, plan.block_table_width, stream);
  attention_.max_query_length = plan.max_query_length;
  attention_.max_kv_length = plan.max_kv_length;
  attention_.decode_sequences = plan.decode_sequences;
}

void DeviceBatch::upload_padded(const BatchPlan& plan, std::int64_t sequences,
                                std::int64_t table_width, Stream stream) {
  place_arrays(plan, sequences - plan.num_sequences(), table_width, stream);
  attention_.max_query_length = 1;
  attention_.max_kv_length = static_cast<int>(table_width * limits_.block_size);
  attention_.decode_sequences = static_cast<int>(sequences);
}

void DeviceBatch::place_arrays(const BatchPlan& plan, std::int64_t padding,
                               std::int64_t table_width, Stream stream) {
  staging_.begin();
  tokens_ = place(staging_, plan.tokens, padding, 0);
  token_sources_ =
      plan.token_sources.empty() ? TensorView() : place(staging_, plan.token_sources, padding, -1);
  positions_ = place(staging_, plan.positions, padding, 0);
  slots_ = place(staging_, plan.slots, padding, -1);
  logits_rows_ = place(staging_, plan.logits_rows, padding, 0);
  const std::int64_t sequences = plan.num_sequences() + padding;
  TensorView starts;
  auto* start = staging_.put<std::int32_t>(sequences + 1, DType::i32, {sequences + 1}, starts);
  start = std::copy(plan.query_starts.begin(), plan.query_starts.end(), start);
  for (std::int64_t i = 0; i < padding; ++i) {
    *start++ = plan.num_tokens() + static_cast<std::int32_t>(i) + 1;
  }
  attention_.query_starts = starts;
  attention_.kv_lengths = place(staging_, plan.kv_lengths, padding, 0);

  TensorView tables;
  auto* row = staging_.put<std::int32_t>(sequences * table_width, DType::i32,
                                         {sequences, table_width}, tables);
  auto from = plan.block_tables.begin();
  for (std::int64_t i = 0; i < plan.num_sequences(); ++i) {
    std::copy_n(from, plan.block_table_width, row);
    from += plan.block_table_width;
    row += table_width;
  }
  attention_.block_tables = tables;

  // Last, since it is not padded and would move what lies behind it.
  auto* slot = staging_.put<std::int32_t>(plan.num_samples(), DType::i32, {plan.num_samples()},
                                          sample_slots_);
  for (const Sample& sample : plan.samples) *slot++ = sample.sequence->slot;
  staging_.finish(stream);
}

}  // namespace millrace
