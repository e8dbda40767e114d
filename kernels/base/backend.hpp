// What a backend provides below the ops: memory, copies, streams. Declared once, implemented in
// backend_cpu.cpp and backend_cuda.cu; the functions are documented in buffer.hpp, stream.hpp,
// device.hpp.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/base/dtype.hpp"
#include "kernels/base/stream.hpp"

namespace millrace {

namespace cpu {
void* allocate(std::size_t bytes, Device device);  // nullptr when there is not enough memory
void release(void* data, std::size_t bytes, Device device) noexcept;
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                Stream stream);
void fill_bytes(void* to, int value, std::size_t bytes, Stream stream);
void* create_stream(Device device);
void destroy_stream(Stream stream) noexcept;
void synchronize(Stream stream);
int device_count();
bool has_code_for(Device device);
std::int64_t memory_bytes(Device device);
std::int64_t free_memory_bytes(Device device);
void* allocate_host(std::size_t bytes, Device device);  // nullptr when there is not enough memory
void release_host(void* data, std::size_t bytes, Device device) noexcept;
void* create_event(Device device, bool timed);
void destroy_event(void* event, Device device) noexcept;
void record_event(void* event, Stream stream);
void wait_event(void* event, Device device);
double seconds_between(void* earlier, void* later);
void begin_capture(Stream stream);
void* end_capture(Stream stream);
void launch_graph(void* graph, Stream stream);
void destroy_graph(void* graph, Device device) noexcept;
}  // namespace cpu

namespace cuda {
void* allocate(std::size_t bytes, Device device);
void release(void* data, std::size_t bytes, Device device) noexcept;
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                Stream stream);
void fill_bytes(void* to, int value, std::size_t bytes, Stream stream);
void* create_stream(Device device);
void destroy_stream(Stream stream) noexcept;
void synchronize(Stream stream);
int device_count();
bool has_code_for(Device device);
std::int64_t memory_bytes(Device device);
std::int64_t free_memory_bytes(Device device);
void* allocate_host(std::size_t bytes, Device device);
void release_host(void* data, std::size_t bytes, Device device) noexcept;
void* create_event(Device device, bool timed);
void destroy_event(void* event, Device device) noexcept;
void record_event(void* event, Stream stream);
void wait_event(void* event, Device device);
double seconds_between(void* earlier, void* later);
void begin_capture(Stream stream);
void* end_capture(Stream stream);
void launch_graph(void* graph, Stream stream);
void destroy_graph(void* graph, Device device) noexcept;
}  // namespace cuda

// A ShapeError for a dtype that an op's CUDA half has no kernel for. Declared here and not in
// error.hpp because nvcc cannot compile fmt's headers as C++20, so no .cu file includes them.
[[noreturn]] void throw_no_kernel(const char* op, DType dtype);

// A UserError for a file that cannot be written.
[[noreturn]] void throw_cannot_write(const std::string& path);

// A UserError for a call that needed memory of its own on a GPU that has none left.
[[noreturn]] void throw_out_of_device_memory(const std::string& call);

}  // namespace millrace
