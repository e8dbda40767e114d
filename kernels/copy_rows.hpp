// Cutting columns out of rows on their way to a device.
#pragma once

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// out [rows, columns] = x, of one dtype; rows of either may be strided. Each may lie on the
// stream's device or in host memory, which stays as it is until the copy has run: at once where it
// is not pinned.
void copy_rows(const TensorView& out, const TensorView& x, Stream stream);

namespace cpu {
decltype(millrace::copy_rows) copy_rows;
}
namespace cuda {
decltype(millrace::copy_rows) copy_rows;
}

}  // namespace millrace
