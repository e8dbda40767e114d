// What a device can do at most, measured in the run that is compared with it.
#pragma once

#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace::bench {

struct Ceilings {
  double copy_bytes_per_second = 0;    // within the device's memory, bytes read + bytes written
  double matmul_flops_per_second = 0;  // of the layers' matrices
  double head_flops_per_second = 0;  // of the output head's, which stays in the activations' dtype
};

// Copies 1 GiB and multiplies square matrices of `weights` dtype, and when `fp8` of fp8 rows, all
// large enough to fill a GPU (smaller ones on a CPU), on random data; the median of several. Takes
// 2 GiB for the moment.
Ceilings measure_ceilings(Device device, DType weights, bool fp8);

}  // namespace millrace::bench
