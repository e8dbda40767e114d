// Sums of many rows, joined with the norm, that run beside matrix products: copy engines carry each
// rank's part to the others while the multiprocessors go on, and the norm adds what has come. A
// kernel that wrote the parts itself would share the multiprocessors with the products and gain
// nothing. Each rank sends all it has to all others, which is least for two ranks.
//
// begin() numbers the sums, so they cannot be part of a graph. Parts come into four slots in turn.
// A rank that begins sum n + 4 has ended n + 2, so it has seen the others begin n + 2; they did so
// after they had ended n, since at most two sums are under way: nobody still reads slot n % 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/peer_memory.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/norm.hpp"

namespace millrace::cuda {

class PeerCopies final : public SumCarrier {
 public:
  // How much memory each rank has to give for sums of at most `sum_bytes`.
  static std::size_t bytes(int ranks, std::size_t sum_bytes);

  PeerCopies(std::unique_ptr<PeerMemory> memory, Device device, std::size_t sum_bytes);
  ~PeerCopies() override;
  PeerCopies(const PeerCopies&) = delete;
  PeerCopies& operator=(const PeerCopies&) = delete;

  // Contiguous rows of f32, f16 or bf16 that are whole packs, not too large, and not in a graph.
  bool can_carry(const TensorView& x, Stream stream) const override;
  void begin(const TensorView& x, Stream stream) override;
  // As peer_all_reduce_add_norm(), and what that takes.
  void end_add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
                    const NormWeights& weights, Stream stream) override;

 private:
  static constexpr std::uint32_t slots = 4;
  struct Engine;

  std::unique_ptr<PeerMemory> memory_;
  Device device_;
  std::size_t sum_bytes_;
  std::unique_ptr<Engine> engine_;
  std::uint32_t begun_ = 0;
  std::uint32_t ended_ = 0;
};

// Whether sums of known numbers come out right. Collective; the same on all ranks.
bool copies_add_up(PeerCopies& copies, const Comm& comm, Device device);

}  // namespace millrace::cuda
