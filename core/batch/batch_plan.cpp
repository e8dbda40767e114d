#include "core/batch/batch_plan.hpp"

#include <algorithm>

namespace millrace {

void BatchPlan::begin(std::int64_t of_step, std::int32_t table_width) {
  step = of_step;
  tokens.clear();
  token_sources.clear();
  positions.clear();
  slots.clear();
  query_starts.assign(1, 0);
  kv_lengths.clear();
  sequence_slots.clear();
  block_tables.clear();
  logits_rows.clear();
  samples.clear();
  block_table_width = table_width;
  decode_sequences = max_query_length = max_kv_length = 0;
}

void BatchPlan::add(const Sequence& sequence, std::int32_t count, std::int32_t block_size,
                    bool feeds_tokens) {
  const std::int32_t begin = sequence.scheduled;
  const std::int32_t end = begin + count;
  for (std::int32_t position = begin; position < end; ++position) {
    const bool is_known = position < sequence.known();
    tokens.push_back(is_known ? sequence.tokens[static_cast<std::size_t>(position)] : 0);
    if (feeds_tokens) token_sources.push_back(is_known ? -1 : sequence.slot);
    positions.push_back(position);
    slots.push_back(sequence.blocks[static_cast<std::size_t>(position / block_size)] * block_size +
                    position % block_size);
  }
  const auto used = static_cast<std::size_t>((end + block_size - 1) / block_size);
  const auto row = block_tables.size();
  block_tables.resize(row + static_cast<std::size_t>(block_table_width), 0);
  std::copy_n(sequence.blocks.begin(), used,
              block_tables.begin() + static_cast<std::ptrdiff_t>(row));
  query_starts.push_back(num_tokens());
  kv_lengths.push_back(end);
  sequence_slots.push_back(sequence.slot);
  if (count == 1) ++decode_sequences;
  max_query_length = std::max(max_query_length, count);
  max_kv_length = std::max(max_kv_length, end);
  if (end == sequence.known() + sequence.unresolved) {
    logits_rows.push_back(num_tokens() - 1);
    samples.push_back({&sequence, sequence.outputs() + sequence.unresolved});
  }
}

}  // namespace millrace
