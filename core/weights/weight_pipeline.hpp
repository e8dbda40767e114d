// Matrices of a checkpoint on their way to this rank, in a row: while one is sent to other ranks
// and packed, the next is read and converted. Host memory on the way is used again and again (fresh
// pages would be zeroed by the system first, which costs more than reading into them), and pinned
// where a GPU copies from it. Weights that are in no file are made on the GPU itself.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "core/weights/checkpoint.hpp"
#include "core/weights/load_peers.hpp"
#include "kernels/base/event.hpp"
#include "kernels/base/host_buffer.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// What this rank holds of one weight. The references outlive the pipeline.
struct WeightPart {
  const TensorSpec& spec;
  const CheckpointTensor& stored;
  TensorSlice slice;
  RowSharers sharers;       // no_sharers() without peers
  std::int64_t number = 0;  // of the weight, alike on all ranks
};

class WeightPipeline {
 public:
  // Gets the matrix where `stream` works: in host memory, or on the GPU. It stays until the call
  // returns.
  using Take = std::function<void(const TensorView& matrix)>;

  // `peers`: null to read alone. `piece_bytes`: as in LoadOptions.
  WeightPipeline(Checkpoint& checkpoint, const LoadPeers* peers, std::int64_t piece_bytes,
                 Stream stream);

  // Appends the matrix of these parts, below one another, and zero rows up to `rows`.
  void add(std::vector<WeightPart> parts, std::int64_t rows, DType dtype, Take take);

  // Before the next matrix the ranks that load together agree to go on: called at the same places
  // of the list on all of them. Nothing to do without peers.
  void agree_here() { agrees_next_ = true; }

  // Allocates what run() needs.
  void prepare();

  // Reads everything that was added and calls each `take` in order. With peers it is collective:
  // what fails on one rank is thrown there when all come to the next agreement, and the others
  // return without the rest.
  void run();

 private:
  struct Piece {
    const WeightPart* part;
    TensorSlice slice;     // of the weight
    std::int64_t row = 0;  // of the matrix
    SharedPiece shared;
    std::size_t apart = 0;  // its offset in Slot::apart
  };
  struct Matrix {
    std::vector<WeightPart> parts;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    DType dtype = DType::f32;
    Take take;
    bool agrees_first = false;
  };
  // What is read at a time: a matrix, or, on its way to a GPU, one piece of it.
  struct Batch {
    const Matrix* matrix;
    std::vector<Piece> pieces;
    std::int64_t first_row = 0;  // of the matrix
    std::int64_t rows = 0;
    bool is_last = false;  // of the matrix
    bool agrees_first = false;
  };
  struct Slot {
    HostBuffer memory;
    HostBuffer apart;  // pieces read with columns that other ranks hold
    Event copied;
  };

  std::vector<Piece> pieces_of(const Matrix& matrix) const;
  void make_batches(const Matrix& matrix);
  bool is_made_there(const Piece& piece) const;
  bool is_read_here(const Piece& piece) const;
  bool is_apart(const Piece& piece) const;
  TensorView in_place(const Batch& batch, const Piece& piece, const Slot& slot) const;
  TensorView as_read(const Batch& batch, const Piece& piece, const Slot& slot) const;
  void read(const Batch& batch, const Slot& slot);
  void finish(const Batch& batch, Slot& slot);
  void give(const Matrix& matrix, const TensorView& view, std::int64_t end) const;
  TensorView target(const Matrix& matrix, const Slot& slot) const;
  template <typename Step>
  void attempt(Step&& step);
  bool has_anyone_failed() const;

  Checkpoint& checkpoint_;
  const LoadPeers* peers_;
  std::int64_t piece_bytes_;
  Stream stream_;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<Batch> batches_;
  std::size_t slot_bytes_ = 0;
  std::size_t apart_bytes_ = 0;
  std::size_t part_bytes_ = 0;
  std::vector<Slot> slots_;
  Buffer device_matrix_;
  Buffer device_part_;  // columns of a piece on their way to another GPU
  bool agrees_next_ = false;
  std::exception_ptr error_;
};

}  // namespace millrace
