#include "kernels/attention.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void paged_attention(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                     const TensorView& v_cache, const AttentionBatch& batch,
                     const AttentionParams& params, Stream stream) {
  constexpr auto op = "paged_attention";
  check(params.kv_heads > 0 && params.heads % params.kv_heads == 0, op,
        std::to_string(params.heads) + " heads over " + std::to_string(params.kv_heads) +
            " KV heads, expected a multiple");
  check_activation(op, "q", q, {-1, params.heads * params.head_dim});
  check_tensor(op, "out", out, q.dtype(), {q.size(0), params.heads * params.head_dim});
  check_activation(op, "out", out, {-1, -1});
  check_tensor(op, "k_cache", k_cache, k_cache.dtype(), {-1, params.kv_heads, -1, params.head_dim});
  check_tensor(op, "v_cache", v_cache, k_cache.dtype(),
               {k_cache.size(0), params.kv_heads, k_cache.size(2), params.head_dim});
  check_contiguous(op, "k_cache", k_cache);
  check_contiguous(op, "v_cache", v_cache);
  check_tensor(op, "kv_lengths", batch.kv_lengths, DType::i32, {-1});
  const std::int64_t sequences = batch.kv_lengths.size(0);
  check_tensor(op, "query_starts", batch.query_starts, DType::i32, {sequences + 1});
  check_tensor(op, "block_tables", batch.block_tables, DType::i32, {sequences, -1});
  check(
      batch.decode_sequences >= 0 && batch.decode_sequences <= sequences, op,
      std::to_string(batch.decode_sequences) + " decode sequences of " + std::to_string(sequences));
  check(batch.max_kv_length <= batch.block_tables.size(1) * k_cache.size(2), op,
        "block_tables is " + batch.block_tables.describe() + ", too narrow for kv length " +
            std::to_string(batch.max_kv_length));
  check_device(op, stream,
               {{"out", out},
                {"q", q},
                {"k_cache", k_cache},
                {"v_cache", v_cache},
                {"query_starts", batch.query_starts},
                {"kv_lengths", batch.kv_lengths},
                {"block_tables", batch.block_tables}});
  if (out.numel() == 0 || sequences == 0) return;
  MILLRACE_DISPATCH(stream.device, paged_attention, out, q, k_cache, v_cache, batch, params,
                    stream);
}

}  // namespace millrace
