// From token ids and positions to the first hidden state.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/linear.hpp"

namespace millrace {

// out[t] = scale * table[ids[t] - vocab_begin], or zeros when that row is not in this shard: the
// sum over tensor ranks completes the row exactly.
//   out   [tokens, hidden] activations
//   ids   [tokens] i32
//   table [vocab_local, hidden]: the same prepared weight that a tied output head multiplies with
void embedding(const TensorView& out, const TensorView& ids, const LinearWeight& table,
               std::int64_t vocab_begin, float scale, Stream stream);

// out[t] += table[positions[t] + offset].
//   out [tokens, hidden] activations, positions [tokens] i32, table [rows, hidden] in out's dtype
// positions[t] + offset must lie in [0, rows): the scheduler keeps sequences below the model's
// length.
void add_position_embedding(const TensorView& out, const TensorView& positions,
                            const TensorView& table, std::int64_t offset, Stream stream);

namespace cpu {
decltype(millrace::embedding) embedding;
decltype(millrace::add_position_embedding) add_position_embedding;
}  // namespace cpu
namespace cuda {
decltype(millrace::embedding) embedding;
decltype(millrace::add_position_embedding) add_position_embedding;
}  // namespace cuda

}  // namespace millrace
