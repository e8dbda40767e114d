#include "kernels/embedding.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void embedding(const TensorView& out, const TensorView& ids, const LinearWeight& table,
               std::int64_t vocab_begin, float scale, Stream stream) {
  constexpr auto op = "embedding";
  check_tensor(op, "ids", ids, DType::i32, {-1});
  check_activation(op, "out", out, {ids.size(0), table.k});
  check_device(op, stream, {{"out", out}, {"ids", ids}, {"table", table.data}});
  if (stream.device.is_cuda())
    check_tensor(op, "table", table.data, out.dtype(), {table.n, table.k});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, embedding, out, ids, table, vocab_begin, scale, stream);
}

void add_position_embedding(const TensorView& out, const TensorView& positions,
                            const TensorView& table, std::int64_t offset, Stream stream) {
  constexpr auto op = "add_position_embedding";
  check_tensor(op, "positions", positions, DType::i32, {-1});
  check_activation(op, "out", out, {positions.size(0), -1});
  check_tensor(op, "table", table, out.dtype(), {-1, out.size(1)});
  check_activation(op, "table", table, {-1, -1});
  check_device(op, stream, {{"out", out}, {"positions", positions}, {"table", table}});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, add_position_embedding, out, positions, table, offset, stream);
}

}  // namespace millrace
