#include "kernels/gather.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void gather_rows(const TensorView& out, const TensorView& x, const TensorView& rows,
                 Stream stream) {
  constexpr auto op = "gather_rows";
  check_tensor(op, "rows", rows, DType::i32, {-1});
  check_activation(op, "x", x, {-1, -1});
  check_tensor(op, "out", out, x.dtype(), {rows.size(0), x.size(1)});
  check_activation(op, "out", out, {-1, -1});
  check_device(op, stream, {{"out", out}, {"x", x}, {"rows", rows}});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, gather_rows, out, x, rows, stream);
}

void feed_tokens(const TensorView& ids, const TensorView& sampled, const TensorView& sources,
                 Stream stream) {
  constexpr auto op = "feed_tokens";
  check_tensor(op, "ids", ids, DType::i32, {-1});
  check_tensor(op, "sampled", sampled, DType::i32, {-1});
  check_tensor(op, "sources", sources, DType::i32, {ids.size(0)});
  check_device(op, stream, {{"ids", ids}, {"sampled", sampled}, {"sources", sources}});
  if (ids.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, feed_tokens, ids, sampled, sources, stream);
}

void keep_tokens(const TensorView& sampled, const TensorView& tokens, const TensorView& slots,
                 Stream stream) {
  constexpr auto op = "keep_tokens";
  check_tensor(op, "sampled", sampled, DType::i32, {-1});
  check_tensor(op, "tokens", tokens, DType::i32, {-1});
  check_tensor(op, "slots", slots, DType::i32, {tokens.size(0)});
  check_device(op, stream, {{"sampled", sampled}, {"tokens", tokens}, {"slots", slots}});
  if (tokens.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, keep_tokens, sampled, tokens, slots, stream);
}

}  // namespace millrace
