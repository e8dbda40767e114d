// Latency and bandwidth of every exchange, by size, beside MPI's own on the same ranks in the same
// run. Start it by mpirun; rank 0 prints the method as comment lines, then CSV rows:
//
//     mpirun -n 4 bench_comm > bench/results/comm.csv
//
// A row's time is the median over repetitions of the slowest rank's time for one call, in
// microseconds; gb_per_second counts the tensor's bytes once.
#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "comm/environment.hpp"
#include "comm/hosts.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {
namespace {

constexpr int warm_up_calls = 20;
constexpr double seconds_per_row = 0.3;

double now_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The median over calls of the slowest rank's microseconds. All ranks start each call together.
double median_us(const Comm& world, const std::function<void()>& call) {
  double first = 0;
  for (int i = 0; i < warm_up_calls; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = now_us();
    call();
    first = now_us() - start;
  }
  const std::int64_t estimate_ns = world.all_reduce_max(static_cast<std::int64_t>(first * 1000));
  const auto calls = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(seconds_per_row * 1e9) / (estimate_ns + 1), 20, 2000);
  std::vector<double> times;
  for (std::int64_t i = 0; i < calls; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = now_us();
    call();
    times.push_back(now_us() - start);
  }
  MPI_Allreduce(MPI_IN_PLACE, times.data(), static_cast<int>(times.size()), MPI_DOUBLE, MPI_MAX,
                MPI_COMM_WORLD);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

void row(const Comm& world, const char* operation, std::size_t bytes,
         const std::function<void()>& ours, const std::function<void()>& mpi) {
  const double mine = median_us(world, ours);
  const double theirs = median_us(world, mpi);
  if (world.rank() != 0) return;
  fmt::print("{},{},{},{:.2f},{:.3f},{:.2f},{:.2f}\n", operation, world.size(), bytes, mine,
             static_cast<double>(bytes) / mine / 1000, theirs, theirs / mine);
  std::fflush(stdout);
}

TensorView floats(std::vector<float>& values) {
  return {values.data(), DType::f32, Device::cpu(), {static_cast<std::int64_t>(values.size())}};
}

void collectives(const Comm& world, std::size_t count) {
  std::vector<float> x(count, 1.0F);
  std::vector<float> all(count * static_cast<std::size_t>(world.size()));
  const int n = static_cast<int>(count);
  const std::size_t bytes = count * sizeof(float);
  row(
      world, "all_reduce_sum", bytes,
      [&] {
        std::fill(x.begin(), x.end(), 1.0F);
        world.all_reduce_sum(floats(x), {});
      },
      [&] {
        std::fill(x.begin(), x.end(), 1.0F);
        MPI_Allreduce(MPI_IN_PLACE, x.data(), n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      });
  row(
      world, "all_gather", bytes, [&] { world.all_gather(floats(all), floats(x), {}); },
      [&] { MPI_Allgather(x.data(), n, MPI_FLOAT, all.data(), n, MPI_FLOAT, MPI_COMM_WORLD); });
  row(
      world, "broadcast", bytes, [&] { world.broadcast(floats(x), 0, {}); },
      [&] { MPI_Bcast(x.data(), n, MPI_FLOAT, 0, MPI_COMM_WORLD); });
}

// Rank 0 to rank 1 and back; the others wait at the next barrier.
void ping_pong(const Comm& world, std::size_t count) {
  std::vector<float> x(count, 1.0F);
  const int n = static_cast<int>(count);
  const int rank = world.rank();
  row(
      world, "ping_pong", count * sizeof(float),
      [&] {
        if (rank == 0) world.send(floats(x), 1, {});
        if (rank < 2) world.recv(floats(x), 1 - rank, {});
        if (rank == 1) world.send(floats(x), 0, {});
      },
      [&] {
        if (rank == 0) MPI_Send(x.data(), n, MPI_FLOAT, 1, 0, MPI_COMM_WORLD);
        if (rank < 2)
          MPI_Recv(x.data(), n, MPI_FLOAT, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1) MPI_Send(x.data(), n, MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
      });
}

// How long the receiver waits for a tensor whose sender goes on computing for 20 ms right after it
// started the send: what a pipeline stage sees.
void overlap(const Comm& world, std::size_t count) {
  std::vector<float> x(count, 1.0F);
  const int n = static_cast<int>(count);
  const int rank = world.rank();
  const auto compute = [] {
    const double until = now_us() + 20'000;
    while (now_us() < until) {
    }
  };
  std::vector<double> waited;
  const auto timed = [&](const std::function<void()>& receive) {
    const double start = now_us();
    receive();
    waited.push_back(now_us() - start);
  };
  constexpr int calls = 15;
  double results[2] = {0, 0};
  for (double& result : results) {
    const bool ours = &result == results;
    waited.clear();
    for (int i = 0; i < calls; ++i) {
      MPI_Barrier(MPI_COMM_WORLD);
      if (rank == 0 && ours) {
        SendHandle sent = world.isend(floats(x), 1, {});
        compute();
        sent.wait();
      } else if (rank == 0) {
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Isend(x.data(), n, MPI_FLOAT, 1, 0, MPI_COMM_WORLD, &request);
        compute();
        MPI_Wait(&request, MPI_STATUS_IGNORE);
      } else if (rank == 1 && ours) {
        timed([&] { world.recv(floats(x), 0, {}); });
      } else if (rank == 1) {
        timed([&] { MPI_Recv(x.data(), n, MPI_FLOAT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE); });
      }
    }
    if (rank == 1) {
      std::nth_element(waited.begin(), waited.begin() + calls / 2, waited.end());
      result = waited[calls / 2];
    }
    MPI_Bcast(&result, 1, MPI_DOUBLE, 1, MPI_COMM_WORLD);
  }
  if (rank != 0) return;
  const std::size_t bytes = count * sizeof(float);
  fmt::print("receive_while_sender_computes,{},{},{:.2f},{:.3f},{:.2f},{:.2f}\n", world.size(),
             bytes, results[0], static_cast<double>(bytes) / results[0] / 1000, results[1],
             results[1] / results[0]);
  std::fflush(stdout);
}

void run(const Comm& world) {
  if (world.rank() == 0) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    MPI_Get_library_version(version, &length);
    const std::string library(version);
    fmt::print("# {} ranks, {} cores, host {}; {}\n", world.size(),
               std::thread::hardware_concurrency(), host_name(),
               library.substr(0, library.find(',')));
    fmt::print(
        "# each call starts after a barrier; {} calls warm up; median of 20 to 2,000 calls of "
        "the slowest rank\n",
        warm_up_calls);
    fmt::print("# all_reduce rows include setting the input; ping_pong is there and back\n");
    fmt::print(
        "# receive_while_sender_computes: median of 15 waits of a receiver whose sender computes "
        "for 20 ms after it began to send\n");
    fmt::print("operation,ranks,bytes,microseconds,gb_per_second,mpi_microseconds,speedup\n");
  }
  // One float; a decode step of 1, 16 and 64 tokens at hidden 576; a prefill step; a large model's.
  for (const std::size_t count : {1UL, 576UL, 16UL * 576, 64UL * 576, 512UL * 576, 512UL * 4096}) {
    collectives(world, count);
    if (world.size() > 1) ping_pong(world, count);
    if (world.size() > 1) overlap(world, count);
  }
}

}  // namespace
}  // namespace millrace

int main() {
  const millrace::Environment environment;
  millrace::run(environment.world());
  return 0;
}
