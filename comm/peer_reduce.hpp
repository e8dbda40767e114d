// All-reduce by kernels that write into each other's memory. All ranks hold the same bits
// afterwards: they add in rank order, in f32 (integers in their own type), so the bits depend on
// the number of ranks and on nothing else.
//
// Every call moves to the other half of the memory. A rank that is in call n + 2 has seen every
// rank in call n + 1, so nobody still reads what call n left in the half that it writes to: no
// barrier is needed at a call's end. The calls are counted on the device, so a graph that holds
// them may be replayed. One stream at a time.
#pragma once

#include "comm/peers.hpp"
#include "comm/reduce_way.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/norm.hpp"

namespace millrace::cuda {

// How much memory each rank has to give, zeroed at first and for nothing else.
std::size_t peer_reduce_bytes(int ranks);

// True for what the kernels can do: contiguous, whole 16-byte packs, sums of f32, f16, bf16, i32,
// i64 and maxima of f32, i32, i64.
bool peers_can_reduce(const TensorView& x, ReduceOp op);
// The same for the joined op: f32, f16, bf16, rows of at most 32 KiB.
bool peers_can_reduce_add_norm(const LinearInput& out, const TensorView& residual,
                               const TensorView& x, const NormWeights& weights);

// `way` is not nccl; all ranks take the same. Any size: in pieces where it is larger than the
// memory.
void peer_all_reduce(ReduceWay way, const TensorView& x, ReduceOp op, const Peers& peers,
                     Stream stream);
// residual += sum of x over ranks; out = norm(residual), quantized where `out` is; x keeps this
// rank's part. The same bits as
// peer_all_reduce() and add_norm() (rows of up to 64 packs may differ in the last bit).
void peer_all_reduce_add_norm(ReduceWay way, const LinearInput& out, const TensorView& residual,
                              const TensorView& x, const NormWeights& weights, const Peers& peers,
                              Stream stream);

}  // namespace millrace::cuda
