// Activations on their way from one pipeline stage to the next. All tensor ranks of a stage hold
// the same activations, so each sends 1/tp of them to its counterpart and the receiving stage
// gathers: the link between the stages carries them once. Shapes are known on both sides; no
// metadata travels.
#pragma once

#include "comm/comm.hpp"

namespace millrace {

class Grid;

// Sends `x`, equal on all tensor ranks of this stage, to the tensor ranks of `stage`. `x` must live
// until the handle is done. Both sides call with tensors of the same shape and dtype.
SendHandle send_to_stage(const Grid& grid, const TensorView& x, int stage, Stream stream);

// Receives into `x` on all tensor ranks of this stage what those of `stage` sent. Collective over
// the stage's tensor ranks.
void receive_from_stage(const Grid& grid, const TensorView& x, int stage, Stream stream);

}  // namespace millrace
