// Rectangles of a row-major tensor in a file, converted as they are read.
#pragma once

#include <cstdint>

#include "core/model/partition.hpp"
#include "core/weights/checkpoint.hpp"
#include "core/weights/checkpoint_file.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// Reads the rectangle of `tensor`, whose elements begin at `offset` in the file, into `out`
// (see Checkpoint::read), several parts at once by OpenMP: whole rows in stretches of megabytes,
// parts of rows one by one. Returns the bytes read.
std::int64_t read_rectangle(const CheckpointFile& file, std::int64_t offset,
                            const CheckpointTensor& tensor, Range rows, Range columns,
                            const TensorView& out);

// Throws ShapeError unless the rectangle lies in the tensor and `out` has its shape; a tensor of
// one dimension is [n, 1].
void check_rectangle(const CheckpointTensor& tensor, Range rows, Range columns,
                     const TensorView& out);

}  // namespace millrace
