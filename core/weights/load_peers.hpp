// Ranks that load together, so that each byte is read from the file system once: one of them reads
// a piece of a weight and gives every other what that rank holds of it. First the tensor ranks of
// the reader's replica get their columns, then each of them serves the ranks of the other replicas
// that hold the same slices. Every piece has another reader, so all ranks read at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/comm.hpp"
#include "core/model/tensor_slice.hpp"

namespace millrace {

struct LoadPeers {
  const Comm& tensor;    // one stage of one replica; rank = tensor coordinate
  const Comm& replicas;  // the ranks that hold the same slices, ready for the weights' device; rank
                         // = data coordinate
  std::vector<RankSlices> tensor_slices;  // of the ranks of `tensor`
};

// Who of the tensor ranks hold the same rows of a weight as this rank, and which columns of them.
struct RowSharers {
  std::vector<int> ranks;      // ascending, this rank among them
  std::vector<Range> columns;  // of each
  Range all_columns;           // that any of them holds
};

// This rank alone.
RowSharers no_sharers(const TensorSlice& slice, int tensor_rank);
RowSharers sharers_of(const TensorSpec& weight, const ModelSpec& spec, const LoadPeers& peers);

// Of a rank that is one of them.
Range columns_of(const RowSharers& sharers, int rank);

// Rows of a weight that one rank reads.
struct SharedPiece {
  int reader_replica = 0;
  int reader_tensor = 0;
  Range read_columns;  // what the reader reads of the rows: all that anybody needs
};

// `number` counts the pieces of all weights, alike on all ranks that exchange them.
SharedPiece share_piece(const RowSharers& sharers, int replicas, std::int64_t number);

// The tensor ranks of the reader's replica get their columns: `read` [rows, read_columns] on the
// reader, `mine` [rows, this rank's columns], contiguous, on all. Nothing to do in other replicas.
void share_columns(const LoadPeers& peers, const RowSharers& sharers, const SharedPiece& piece,
                   const TensorView& read, const TensorView& mine);

// The same with `mine` in memory of the stream's device and columns on their way from GPU to GPU,
// in the stream's order. `read` is in host memory that stays as it is; `part` is device memory for
// what another rank holds of the piece. Copies of the reader go through `attempt`, so that one that
// fails keeps no other rank waiting.
void share_columns_of_gpus(const LoadPeers& peers, const RowSharers& sharers,
                           const SharedPiece& piece, const TensorView& read, const TensorView& mine,
                           void* part,
                           const std::function<void(const std::function<void()>&)>& attempt,
                           Stream stream);

// The ranks of the other replicas get the same columns, from each other: `mine`, in host memory,
// stays until the sends that are added to `sends` are done. (MPI's own broadcast waits by spinning:
// bench/results/loading.md has what that cost.)
void share_replicas(const LoadPeers& peers, const SharedPiece& piece, const TensorView& mine,
                    std::vector<SendHandle>& sends);

}  // namespace millrace
