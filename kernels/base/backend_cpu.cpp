// Host memory: large blocks come straight from mmap (zero pages until touched), small ones from the
// C library; a CPU op has run when it returns, so streams are empty.
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "kernels/base/backend.hpp"

namespace millrace::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t alignment = 64;
constexpr std::size_t map_threshold = std::size_t{1} << 20;

}  // namespace

void* allocate(std::size_t bytes, Device) {
  if (bytes >= map_threshold) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void release(void* data, std::size_t bytes, Device) noexcept {
  if (bytes >= map_threshold) {
    munmap(data, bytes);
  } else {
    std::free(data);
  }
}

void copy_bytes(void* to, Device, const void* from, Device, std::size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream) { std::memset(to, value, bytes); }

void* create_stream(Device) { return nullptr; }

void destroy_stream(Stream) noexcept {}

void synchronize(Stream) {}

int device_count() { return 0; }

// Asked of GPUs alone.
bool has_code_for(Device) { throw std::logic_error("the CPU has no GPU's code"); }

std::int64_t memory_bytes(Device) {
  return std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

std::int64_t free_memory_bytes(Device) {
  return std::int64_t{sysconf(_SC_AVPHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

void* allocate_host(std::size_t bytes, Device device) { return allocate(bytes, device); }

void release_host(void* data, std::size_t bytes, Device device) noexcept {
  release(data, bytes, device);
}

// Only a timed event has something to remember.
void* create_event(Device, bool timed) { return timed ? new Clock::time_point() : nullptr; }

void destroy_event(void* event, Device) noexcept { delete static_cast<Clock::time_point*>(event); }

void record_event(void* event, Stream) {
  if (event != nullptr) *static_cast<Clock::time_point*>(event) = Clock::now();
}

void wait_event(void*, Device) {}

double seconds_between(void* earlier, void* later) {
  return std::chrono::duration<double>(*static_cast<Clock::time_point*>(later) -
                                       *static_cast<Clock::time_point*>(earlier))
      .count();
}

// Graph::is_supported says no to the CPU, so these are never reached.
void begin_capture(Stream) { throw std::logic_error("graphs are not recorded on the CPU"); }

void* end_capture(Stream) { throw std::logic_error("graphs are not recorded on the CPU"); }

void launch_graph(void*, Stream) { throw std::logic_error("graphs are not recorded on the CPU"); }

void destroy_graph(void*, Device) noexcept {}

}  // namespace millrace::cpu
