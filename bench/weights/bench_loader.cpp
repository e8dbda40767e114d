// How fast a checkpoint is loaded, and how fast plain pread of the same bytes is.
//
//   bench_loader MODEL [TENSOR_PARALLEL_SIZE]
//
// MODEL is what --model takes. Rank 0's slices are loaded on the CPU as f32, bf16 and f16; bytes
// are those read from files. The files are read once before, so all rates are those of the page
// cache. Best of three. Prints one row per way:
//
//   way          dtype      read GB  held GB  seconds  GB/s read
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "core/model/model_folder.hpp"
#include "core/weights/checkpoint_file.hpp"
#include "core/weights/loader.hpp"
#include "kernels/base/error.hpp"

namespace {

using namespace millrace;

constexpr int repetitions = 3;
constexpr std::size_t part_bytes = std::size_t{4} << 20;

double best_seconds(const std::function<void()>& call) {
  double best = 1e9;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count());
  }
  return best;
}

void print_row(const char* way, std::string_view dtype, double read, double held, double seconds) {
  fmt::print("{:<12} {:<10} {:7.3f}  {:7.3f}  {:7.3f}  {:9.2f}\n", way, dtype, read * 1e-9,
             held * 1e-9, seconds, read / seconds * 1e-9);
  std::fflush(stdout);
}

std::vector<std::filesystem::path> files_of(const ModelFiles& files) {
  if (files.is_gguf()) return {files.gguf};
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(files.folder)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  return paths;
}

// All bytes of the files through a buffer, by one thread.
std::int64_t read_through(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::byte> buffer(part_bytes);
  std::int64_t total = 0;
  for (const auto& path : paths) {
    const CheckpointFile file(path);
    for (std::int64_t at = 0; at < file.bytes(); at += static_cast<std::int64_t>(part_bytes)) {
      const std::int64_t rest = file.bytes() - at;
      const auto part = std::min<std::size_t>(part_bytes, static_cast<std::size_t>(rest));
      file.read(at, {buffer.data(), part});
    }
    total += file.bytes();
  }
  return total;
}

void run(const std::string& name, int tensor_parallel_size) {
  const ModelFiles files = find_model(name);
  const ModelDescription model = describe_model(files);
  const RankSlices slices = partition(model.spec, {1, 1, tensor_parallel_size}, {0, 0, 0});
  fmt::print("{:<12} {:<10} {:>7}  {:>7}  {:>7}  {:>9}\n", "way", "dtype", "read GB", "held GB",
             "seconds", "GB/s read");
  const std::vector<std::filesystem::path> paths = files_of(files);
  const auto total = static_cast<double>(read_through(paths));
  print_row("pread", "-", total, 0, best_seconds([&] { read_through(paths); }));
  const auto load = [&](const char* way, bool is_dummy, DType dtype) {
    LoadReport report;
    const double seconds = best_seconds([&] {
      const auto checkpoint = is_dummy ? make_dummy_checkpoint(model, 0) : open_checkpoint(files);
      report = load_weights(model, *checkpoint, slices,
                            {.dtype = dtype, .device = Device::cpu(), .max_positions = 2048}, {})
                   .report;
    });
    print_row(way, millrace::name(dtype), static_cast<double>(report.bytes_read),
              static_cast<double>(report.weight_bytes), seconds);
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    load("loader", false, dtype);
    load("dummy", true, dtype);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: bench_loader MODEL [TENSOR_PARALLEL_SIZE]\n");
    return 2;
  }
  try {
    run(argv[1], argc > 2 ? std::atoi(argv[2]) : 1);
  } catch (const UserError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
