#include "comm/measure_reduce_cuda.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/base/cuda_check.hpp"
#include "kernels/base/graph.hpp"

namespace millrace::cuda {
namespace {

constexpr std::int64_t hidden = 4096;  // a usual row
constexpr std::int64_t row_bytes = hidden * 2;
constexpr std::int64_t largest_rows = 4096;
constexpr std::int64_t row_counts[] = {1, 4, 16, 64, 256, 1024, largest_rows};
// A flag beside every word doubles the bytes: beyond this it cannot win.
constexpr std::int64_t most_rows_by_words = 128;
constexpr std::int64_t fewest_rows_in_two_shots = 16;
// A call that takes so long is measured by itself: what its launch takes no longer matters.
constexpr double long_milliseconds = 2;

std::vector<ReduceWay> ways_of(std::int64_t rows, int ranks) {
  std::vector<ReduceWay> ways = {ReduceWay::nccl, ReduceWay::one_shot};
  if (rows <= most_rows_by_words) ways.push_back(ReduceWay::words);
  // Two ranks exchange as much either way.
  if (ranks > 2 && rows >= fewest_rows_in_two_shots) ways.push_back(ReduceWay::two_shot);
  return ways;
}

Tensor bfloat16_rows(Device device, std::int64_t rows, float value, Stream stream) {
  Tensor tensor(DType::bf16, device, {rows, hidden});
  const std::vector<Bfloat16> values(static_cast<std::size_t>(rows * hidden), to_bfloat16(value));
  copy_bytes(tensor->data(), device, values.data(), Device::cpu(), tensor->bytes(), stream);
  synchronize(stream);
  return tensor;
}

// The first way whose sum of 1 + 2 + ... + ranks is something else, by name; "" when all are right.
std::string wrong_way(const Comm& comm, Device device, const ReduceCalls& calls, Stream stream) {
  constexpr std::int64_t rows = 64;
  const auto expected = static_cast<float>(comm.size() * (comm.size() + 1) / 2);
  for (const ReduceWay way : ways_of(rows, comm.size())) {
    const Tensor x = bfloat16_rows(device, rows, static_cast<float>(comm.rank() + 1), stream);
    calls.all_reduce(way, x, stream);
    std::vector<Bfloat16> sums(static_cast<std::size_t>(x->numel()));
    copy_bytes(sums.data(), Device::cpu(), x->data(), device, x->bytes(), stream);
    synchronize(stream);
    const bool is_right = std::all_of(sums.begin(), sums.end(),
                                      [&](Bfloat16 sum) { return to_float(sum) == expected; });
    if (comm.all_reduce_min(std::int64_t{is_right}) == 0) return std::string(to_string(way));
  }
  return "";
}

class TimedEvent {
 public:
  TimedEvent() { cuda_check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~TimedEvent() { cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;

  void record(Stream stream) const {
    cuda_check(cudaEventRecord(event_, native(stream)), "cudaEventRecord");
  }
  float milliseconds_since(const TimedEvent& begin) const {
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "cudaEventElapsedTime");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

double graph_microseconds(const Comm& comm, Stream stream, int calls, int rounds,
                          const std::function<void()>& call) {
  const TimedEvent begin;
  const TimedEvent end;
  const auto milliseconds_of = [&](const auto& run) {
    call();  // brings the ranks together: what follows begins at the same time on all GPUs
    begin.record(stream);
    run();
    end.record(stream);
    synchronize(stream);
    return double{end.milliseconds_since(begin)};
  };
  const auto of_slowest_rank = [&](double milliseconds) {
    const auto nanoseconds = static_cast<std::int64_t>(1e6 * milliseconds);
    return 1e-6 * static_cast<double>(comm.all_reduce_max(nanoseconds));
  };
  call();  // what a call sets up when it is the first cannot be recorded
  // Of two, since one that something held up would put its way out of the choice.
  const double single = of_slowest_rank(std::min(milliseconds_of(call), milliseconds_of(call)));
  if (single > long_milliseconds) return 1000 * single;
  const Graph graph = Graph::record(stream, [&] {
    for (int i = 0; i < calls; ++i) call();
  });
  double best = std::numeric_limits<double>::max();
  for (int round = 0; round <= rounds; ++round) {  // the first one warms up
    const double milliseconds = milliseconds_of([&] { graph.launch(stream); });
    if (round > 0) best = std::min(best, milliseconds);
  }
  return 1000 * of_slowest_rank(best) / calls;
}

MeasuredReduce measure_reduce(const Comm& comm, Device device, const ReduceCalls& calls) {
  const OwnedStream owned(device);
  const Stream stream = owned.stream();
  MeasuredReduce measured;
  if (const std::string way = wrong_way(comm, device, calls, stream); !way.empty()) {
    measured.obstacle = fmt::format("{} sums over peer memory are wrong", way);
    return measured;
  }
  // Zeros stay zeros, however often they are added.
  const Tensor x = bfloat16_rows(device, largest_rows, 0, stream);
  const Tensor residual = bfloat16_rows(device, largest_rows, 0, stream);
  const Tensor out = bfloat16_rows(device, largest_rows, 0, stream);
  const Tensor weight = bfloat16_rows(device, 1, 1, stream);
  NormWeights norm;
  norm.weight = weight->reshape({hidden});

  std::vector<ReduceTimes> plain;
  std::vector<ReduceTimes> with_norm;
  for (const std::int64_t rows : row_counts) {
    const auto first = [&](const Tensor& tensor) { return tensor->slice(0, 0, rows); };
    const int count = rows <= 64 ? 40 : rows <= 1024 ? 10 : 4;
    ReduceTimes& alone = plain.emplace_back();
    ReduceTimes& joined = with_norm.emplace_back();
    alone.bytes = joined.bytes = static_cast<std::size_t>(rows * row_bytes);
    for (const ReduceWay way : ways_of(rows, comm.size())) {
      alone.ways.push_back({way, graph_microseconds(comm, stream, count, 2, [&] {
                              calls.all_reduce(way, first(x), stream);
                            })});
      joined.ways.push_back({way, graph_microseconds(comm, stream, count, 2, [&] {
                               calls.all_reduce_add_norm(way, first(out), first(residual), first(x),
                                                         norm, stream);
                             })});
    }
  }
  measured.plain = ReduceChoice(plain);
  measured.with_norm = ReduceChoice(with_norm);
  return measured;
}

}  // namespace millrace::cuda
