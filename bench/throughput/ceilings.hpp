// What a device can do at most, measured in the run that is compared with it.
#pragma once

#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace::bench {

struct Ceilings {
  double copy_bytes_per_second = 0;  // within the device's memory, bytes read + bytes written
  double matmul_flops_per_second = 0;
};

// Copies 1 GiB and multiplies square matrices of `weights` dtype, both large enough to fill a GPU
// (smaller ones on a CPU), on random data; the median of several. Takes 2 GiB for the moment.
Ceilings measure_ceilings(Device device, DType weights);

}  // namespace millrace::bench
