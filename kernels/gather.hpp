// Moving rows and tokens by index.
#pragma once

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// out[i] = x[rows[i]]: the rows of the hidden state whose logits are wanted.
//   out [n, width], x [m, width] of one dtype (any float type); rows [n] i32, each in [0, m)
// Rows of out and x may be strided; x and out must not overlap.
void gather_rows(const TensorView& out, const TensorView& x, const TensorView& rows, Stream stream);

// ids[t] = sampled[sources[t]] where sources[t] >= 0; other ids stay. All i32; ids and sources
// [tokens], sampled [n]. It feeds tokens into the next step that the host has not seen yet.
void feed_tokens(const TensorView& ids, const TensorView& sampled, const TensorView& sources,
                 Stream stream);

// sampled[slots[i]] = tokens[i]: keeps what was just drawn for feed_tokens. All i32; tokens and
// slots [n], slots in range and distinct.
void keep_tokens(const TensorView& sampled, const TensorView& tokens, const TensorView& slots,
                 Stream stream);

namespace cpu {
decltype(millrace::gather_rows) gather_rows;
decltype(millrace::feed_tokens) feed_tokens;
decltype(millrace::keep_tokens) keep_tokens;
}  // namespace cpu
namespace cuda {
decltype(millrace::gather_rows) gather_rows;
decltype(millrace::feed_tokens) feed_tokens;
decltype(millrace::keep_tokens) keep_tokens;
}  // namespace cuda

}  // namespace millrace
