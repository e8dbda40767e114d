// Device memory, copies and streams by the CUDA runtime. Allocation is plain cudaMalloc: the engine
// takes all its memory at start-up and never inside a step.
#include <array>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/base/backend.hpp"
#include "kernels/base/buffer.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda {
namespace {

constexpr int max_devices = 64;

int attribute(Device device, cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, device.index), "cudaDeviceGetAttribute");
  return value;
}

__global__ void empty_kernel() {}

using StreamKey = std::pair<int, void*>;  // device, handle

std::mutex scratch_mutex;

// Never destroyed: at exit the driver may be gone before statics are.
std::map<StreamKey, Buffer>& scratch_of_streams() {
  static auto* scratch = new std::map<StreamKey, Buffer>();
  return *scratch;
}

}  // namespace

void throw_cuda_error(const char* call, cudaError_t error) {
  if (error != cudaErrorMemoryAllocation) throw CudaError(call, error);
  cudaGetLastError();  // not sticky
  throw_out_of_device_memory(call);
}

void* scratch(Stream stream) {
  const std::lock_guard lock(scratch_mutex);
  Buffer& buffer = scratch_of_streams()[{stream.device.index, stream.handle}];
  if (buffer.data() == nullptr) {
    constexpr std::size_t counter_bytes = counter_count * sizeof(int);
    buffer = Buffer(scratch_bytes + counter_bytes, stream.device);
    cuda_check(
        cudaMemset(static_cast<unsigned char*>(buffer.data()) + scratch_bytes, 0, counter_bytes),
        "cudaMemset");
    cuda_check(cudaDeviceSynchronize(),
               "cudaDeviceSynchronize");  // this stream does not wait for it
  }
  return buffer.data();
}

int* zeroed_counters(Stream stream) {
  return reinterpret_cast<int*>(static_cast<unsigned char*>(scratch(stream)) + scratch_bytes);
}

void use_device(Device device) {
  thread_local int current = -1;
  if (device.index == current) return;
  cuda_check(cudaSetDevice(device.index), "cudaSetDevice");
  current = device.index;
}

int multiprocessor_count(Device device) {
  static std::array<int, max_devices> counts{};
  int& count = counts.at(static_cast<std::size_t>(device.index));
  if (count == 0) count = attribute(device, cudaDevAttrMultiProcessorCount);
  return count;
}

int compute_capability(Device device) {
  static std::array<int, max_devices> capabilities{};
  int& capability = capabilities.at(static_cast<std::size_t>(device.index));
  if (capability == 0) {
    capability = 10 * attribute(device, cudaDevAttrComputeCapabilityMajor) +
                 attribute(device, cudaDevAttrComputeCapabilityMinor);
  }
  return capability;
}

bool runs_hopper_kernels([[maybe_unused]] Device device) {
#ifdef MILLRACE_HAS_SM90A
  return compute_capability(device) == 90;
#else
  return false;
#endif
}

void* allocate(std::size_t bytes, Device device) {
  use_device(device);
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the caller reports it, later calls must not
    return nullptr;
  }
  cuda_check(error, "cudaMalloc");
  return data;
}

void release(void* data, std::size_t, Device) noexcept { cudaFree(data); }

void copy_bytes(void* to, Device, const void* from, Device, std::size_t bytes, Stream stream) {
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)),
             "cudaMemcpyAsync");
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream stream) {
  cuda_check(cudaMemsetAsync(to, value, bytes, native(stream)), "cudaMemsetAsync");
}

void* create_stream(Device device) {
  use_device(device);
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  scratch({device, stream});
  return stream;
}

void destroy_stream(Stream stream) noexcept {
  {
    const std::lock_guard lock(scratch_mutex);
    scratch_of_streams().erase({stream.device.index, stream.handle});
  }
  cudaStreamDestroy(static_cast<cudaStream_t>(stream.handle));
}

void synchronize(Stream stream) {
  cuda_check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

void* allocate_host(std::size_t bytes, Device device) {
  use_device(device);
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  cuda_check(error, "cudaMallocHost");
  return data;
}

void release_host(void* data, std::size_t, Device) noexcept { cudaFreeHost(data); }

void* create_event(Device device, bool timed) {
  use_device(device);
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
             "cudaEventCreateWithFlags");
  return event;
}

void destroy_event(void* event, Device) noexcept {
  cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

void record_event(void* event, Stream stream) {
  cuda_check(cudaEventRecord(static_cast<cudaEvent_t>(event), native(stream)), "cudaEventRecord");
}

void wait_event(void* event, Device) {
  cuda_check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "cudaEventSynchronize");
}

double seconds_between(void* earlier, void* later) {
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier),
                                  static_cast<cudaEvent_t>(later)),
             "cudaEventElapsedTime");
  return 1e-3 * static_cast<double>(milliseconds);
}

// Thread-local: other threads may allocate and copy while this one records.
void begin_capture(Stream stream) {
  cuda_check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
}

void* end_capture(Stream stream) {
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(native(stream), &graph);
  if (ended != cudaSuccess) cudaGetLastError();  // not for later calls to find
  cuda_check(ended, "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  cuda_check(error, "cudaGraphInstantiate");
  return executable;
}

void launch_graph(void* graph, Stream stream) {
  cuda_check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), native(stream)),
             "cudaGraphLaunch");
}

void destroy_graph(void* graph, Device) noexcept {
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

bool has_code_for(Device device) {
  use_device(device);
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, empty_kernel);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    cudaGetLastError();  // an answer, not a failure
    return false;
  }
  cuda_check(error, "cudaFuncGetAttributes");
  return true;
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver or no device is an answer here, not a failure
    return 0;
  }
  return count;
}

namespace {

struct Memory {
  std::size_t free = 0;
  std::size_t total = 0;
};

Memory memory_of(Device device) {
  use_device(device);
  Memory memory;
  cuda_check(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo");
  return memory;
}

}  // namespace

std::int64_t memory_bytes(Device device) {
  return static_cast<std::int64_t>(memory_of(device).total);
}

std::int64_t free_memory_bytes(Device device) {
  return static_cast<std::int64_t>(memory_of(device).free);
}

}  // namespace millrace::cuda
