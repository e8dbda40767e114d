#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "comm/peer_copies.hpp"
#include "comm/peer_reduce.hpp"
#include "comm/peer_sum_cuda.cuh"
#include "comm/peer_wait_cuda.cuh"
#include "kernels/norm_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

// A copy engine writes a flag by copying it from a table of all the values that one can have.
constexpr std::uint32_t flag_values = 1024;

constexpr std::uint32_t flag_of(std::uint32_t number) { return number % flag_values + 1; }

// A rank's memory: the table, a flag for every slot and other rank, the parts by slot and rank.
struct CopyLayout {
  int others;
  std::size_t part_bytes;

  CopyLayout(int ranks, std::size_t sum_bytes)
      : others(ranks - 1), part_bytes((sum_bytes + 255) / 256 * 256) {}

  std::size_t flag_at(std::uint32_t slot, int part) const {
    return (flag_values + slot * static_cast<std::size_t>(others) +
            static_cast<std::size_t>(part)) *
           sizeof(std::uint32_t);
  }
  std::size_t part_at(std::uint32_t slot, int part) const {
    const std::size_t head = (flag_at(slots_end, 0) + 255) / 256 * 256;
    return head +
           (slot * static_cast<std::size_t>(others) + static_cast<std::size_t>(part)) * part_bytes;
  }
  std::size_t all() const { return part_at(slots_end, 0); }

  static constexpr std::uint32_t slots_end = 4;
};

template <int ranks, bool quantize, typename T>
__global__ void __launch_bounds__(max_norm_threads(peer_packs))
    peer_copied_norm_rows(NormArgs<T> args, bool is_rms, const std::byte* parts,
                          std::size_t part_bytes, const std::uint32_t* flags, std::uint32_t flag,
                          Peers peers) {
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  const auto thread = static_cast<int>(threadIdx.x);
  HeldRow<T> held;
  held.count = args.hidden / pack_width<T>();
  held.load(args.x.row(row));
  if (thread < peers.size && thread != peers.rank) {
    wait_for(flags + part_of(thread, peers.rank), flag, peers.alarm, thread);
  }
  __syncthreads();
  held.template add_parts<ranks, Sum>(parts + row * held.count * pack_bytes, part_bytes, peers);
  if (is_rms) {
    add_norm_held<NormKind::rms, quantize>(held.packs, args, row, scratch);
  } else {
    add_norm_held<NormKind::layer, quantize>(held.packs, args, row, scratch);
  }
}

class OrderEvent {
 public:
  OrderEvent() {
    cuda_check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming),
               "cudaEventCreateWithFlags");
  }
  ~OrderEvent() { cudaEventDestroy(event_); }
  OrderEvent(const OrderEvent&) = delete;
  OrderEvent& operator=(const OrderEvent&) = delete;

  void record(cudaStream_t stream) const {
    cuda_check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  void wait(cudaStream_t stream) const {
    cuda_check(cudaStreamWaitEvent(stream, event_), "cudaStreamWaitEvent");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

cudaStream_t make_stream(Device device) {
  use_device(device);
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  return stream;
}

void copy_on(cudaStream_t stream, std::byte* to, const void* from, std::size_t bytes) {
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream),
             "cudaMemcpyAsync to another GPU");
}

}  // namespace

// A stream for each other rank, so that one slow link keeps no other waiting.
struct PeerCopies::Engine {
  explicit Engine(Device device, int others) {
    for (int i = 0; i < others; ++i) streams.push_back(make_stream(device));
    ready = std::vector<OrderEvent>(slots);
    sent = std::vector<OrderEvent>(slots * static_cast<std::size_t>(others));
  }
  ~Engine() {
    for (cudaStream_t stream : streams) cudaStreamDestroy(stream);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const OrderEvent& sent_of(std::uint32_t slot, std::size_t other) const {
    return sent[slot * streams.size() + other];
  }

  std::vector<cudaStream_t> streams;
  std::vector<OrderEvent> ready;  // of each slot
  std::vector<OrderEvent> sent;   // of each slot and stream
};

std::size_t PeerCopies::bytes(int ranks, std::size_t sum_bytes) {
  return CopyLayout(ranks, sum_bytes).all();
}

PeerCopies::PeerCopies(std::unique_ptr<PeerMemory> memory, Device device, std::size_t sum_bytes)
    : memory_(std::move(memory)),
      device_(device),
      sum_bytes_(sum_bytes),
      engine_(std::make_unique<Engine>(device, memory_->peers().size - 1)) {
  static_assert(slots == CopyLayout::slots_end && flag_values % slots == 0);
  std::vector<std::uint32_t> table(flag_values);
  std::iota(table.begin(), table.end(), 1U);
  const Peers& peers = memory_->peers();
  cuda_check(cudaMemcpy(peers.bases[peers.rank], table.data(), table.size() * sizeof(table[0]),
                        cudaMemcpyHostToDevice),
             "cudaMemcpy");
}

PeerCopies::~PeerCopies() = default;

bool PeerCopies::can_carry(const TensorView& x, Stream stream) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cuda_check(cudaStreamIsCapturing(native(stream), &status), "cudaStreamIsCapturing");
  // Rows of an fp8 out are whole packs too.
  return status == cudaStreamCaptureStatusNone && x.bytes() <= sum_bytes_ && x.rank() == 2 &&
         x.is_contiguous() && x.size(1) % pack_bytes == 0 &&
         peers_can_reduce_add_norm(x, x, x, NormWeights{});
}

void PeerCopies::begin(const TensorView& x, Stream stream) {
  if (begun_ - ended_ == 2 || !can_carry(x, stream)) {
    throw std::logic_error("a third sum by copies, or one that cannot be carried: " + x.describe());
  }
  const cudaStream_t main = native(stream);
  const Peers& peers = memory_->peers();
  const CopyLayout layout(peers.size, sum_bytes_);
  const std::uint32_t slot = begun_ % slots;
  const std::byte* flag = peers.bases[peers.rank] + (flag_of(begun_) - 1) * sizeof(std::uint32_t);
  engine_->ready[slot].record(main);
  for (int r = 1; r < peers.size; ++r) {
    const int to = (peers.rank + r) % peers.size;
    const int part = part_of(peers.rank, to);
    const auto other = static_cast<std::size_t>(r - 1);
    const cudaStream_t side = engine_->streams[other];
    engine_->ready[slot].wait(side);
    copy_on(side, peers.bases[to] + layout.part_at(slot, part), x.data(), x.bytes());
    copy_on(side, peers.bases[to] + layout.flag_at(slot, part), flag, sizeof(std::uint32_t));
    engine_->sent_of(slot, other).record(side);
  }
  ++begun_;
}

void PeerCopies::end_add_norm(const LinearInput& out, const TensorView& residual,
                              const TensorView& x, const NormWeights& weights, Stream stream) {
  if (begun_ == ended_) throw std::logic_error("no sum by copies is under way");
  const cudaStream_t main = native(stream);
  const Peers& peers = memory_->peers();
  const CopyLayout layout(peers.size, sum_bytes_);
  const std::uint32_t slot = ended_ % slots;
  const std::byte* own = peers.bases[peers.rank];
  with_float_type("all_reduce_add_norm", x.dtype(), [&](auto element) {
    using T = decltype(element);
    const NormArgs<T> args = norm_args<T>(out, &residual, x, weights);
    const auto threads = static_cast<unsigned>(
        ceil_div(ceil_div(args.hidden / pack_width<T>(), peer_packs), warp_size) * warp_size);
    const auto launch = [&](auto ranks, auto quantize) {
      peer_copied_norm_rows<decltype(ranks)::value, decltype(quantize)::value>
          <<<static_cast<unsigned>(x.size(0)), threads, 0, main>>>(
              args, weights.kind == NormKind::rms, own + layout.part_at(slot, 0), layout.part_bytes,
              reinterpret_cast<const std::uint32_t*>(own + layout.flag_at(slot, 0)),
              flag_of(ended_), peers);
    };
    const auto launch_for = [&](auto ranks) {
      if (out.is_quantized()) return launch(ranks, std::true_type());
      launch(ranks, std::false_type());
    };
    if (peers.size == 2) {
      launch_for(std::integral_constant<int, 2>());
    } else {
      launch_for(std::integral_constant<int, max_peers>());
    }
  });
  check_launch("peer_copied_norm_rows");
  // The own part has long gone when the others' parts have come; but who overwrites x must know.
  for (std::size_t other = 0; other < engine_->streams.size(); ++other) {
    engine_->sent_of(slot, other).wait(main);
  }
  ++ended_;
}

bool copies_add_up(PeerCopies& copies, const Comm& comm, Device device) {
  constexpr std::int64_t rows = 3;
  constexpr std::int64_t hidden = 256;
  const OwnedStream stream(device);
  const auto filled = [&](std::int64_t count, float value) {
    Tensor tensor(DType::f32, device, {count, hidden});
    const std::vector<float> values(static_cast<std::size_t>(count * hidden), value);
    millrace::copy_bytes(tensor->data(), device, values.data(), Device::cpu(), tensor->bytes(),
                         stream.stream());
    millrace::synchronize(stream.stream());
    return tensor;
  };
  const Tensor weight = filled(1, 1);
  NormWeights norm;
  norm.weight = weight->reshape({hidden});
  bool is_right = true;
  for (int turn = 1; turn <= 6; ++turn) {  // every slot
    const Tensor x = filled(rows, static_cast<float>(turn * (comm.rank() + 1)));
    const Tensor residual = filled(rows, 0);
    const Tensor out = filled(rows, 0);
    copies.begin(x, stream.stream());
    copies.end_add_norm(out, residual, x, norm, stream.stream());
    std::vector<float> sums(static_cast<std::size_t>(rows * hidden));
    millrace::copy_bytes(sums.data(), Device::cpu(), residual->data(), device, residual->bytes(),
                         stream.stream());
    millrace::synchronize(stream.stream());
    const auto expected = static_cast<float>(turn * comm.size() * (comm.size() + 1) / 2);
    is_right = is_right && std::ranges::all_of(sums, [&](float sum) { return sum == expected; });
  }
  return comm.all_reduce_min(std::int64_t{is_right}) == 1;
}

}  // namespace millrace::cuda
