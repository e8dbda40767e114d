#include "core/engine/device_batch.hpp"

#include <vector>

namespace millrace {

namespace {

TensorView place(const Tensor& memory, const std::vector<std::int32_t>& values, Stream stream) {
  const auto count = static_cast<std::int64_t>(values.size());
  copy_bytes(memory->data(), memory->device(), values.data(), Device::cpu(),
             values.size() * sizeof(std::int32_t), stream);
  return memory->slice(0, 0, count);
}

}  // namespace

DeviceBatch::DeviceBatch(const BatchLimits& limits, Device device)
    : token_memory_(DType::i32, device, {limits.tokens}),
      position_memory_(DType::i32, device, {limits.tokens}),
      slot_memory_(DType::i32, device, {limits.tokens}),
      row_memory_(DType::i32, device, {limits.sequences}),
      start_memory_(DType::i32, device, {limits.sequences + 1}),
      length_memory_(DType::i32, device, {limits.sequences}),
      table_memory_(DType::i32, device, {limits.sequences * limits.blocks_per_sequence}) {}

void DeviceBatch::upload(const BatchPlan& plan, Stream stream) {
  tokens_ = place(token_memory_, plan.tokens, stream);
  positions_ = place(position_memory_, plan.positions, stream);
  slots_ = place(slot_memory_, plan.slots, stream);
  logits_rows_ = place(row_memory_, plan.logits_rows, stream);
  attention_.query_starts = place(start_memory_, plan.query_starts, stream);
  attention_.kv_lengths = place(length_memory_, plan.kv_lengths, stream);
  attention_.block_tables = place(table_memory_, plan.block_tables, stream)
                                .reshape({plan.num_sequences(), plan.block_table_width});
  attention_.max_query_length = plan.max_query_length;
  attention_.max_kv_length = plan.max_kv_length;
  attention_.decode_sequences = plan.decode_sequences;
}

}  // namespace millrace
