#include "comm/pipeline_transfer.hpp"

#include "comm/grid.hpp"

namespace millrace {
namespace {

// Up to this size each tensor rank sends everything: a second exchange would take longer than the
// bytes it saves.
constexpr std::size_t whole_bytes = 16 * 1024;

// Elements [rank x share, (rank + 1) x share) are this rank's, the remaining few are everybody's.
struct Slices {
  TensorView flat;
  std::int64_t share;

  Slices(const TensorView& x, const Comm& tensor)
      : flat(x.reshape({x.numel()})),
        share(x.bytes() <= whole_bytes ? 0 : x.numel() / tensor.size()) {}

  TensorView mine(const Comm& tensor) const { return flat.slice(0, share * tensor.rank(), share); }
  TensorView shared(const Comm& tensor) const { return flat.slice(0, 0, share * tensor.size()); }
  TensorView rest(const Comm& tensor) const {
    const std::int64_t begin = share * tensor.size();
    return flat.slice(0, begin, flat.numel() - begin);
  }
};

}  // namespace

SendHandle send_to_stage(const Grid& grid, const TensorView& x, int stage, Stream stream) {
  if (grid.tensor().size() == 1) return grid.pipeline().isend(x, stage, stream);
  const Slices slices(x, grid.tensor());
  SendHandle sends = grid.pipeline().isend(slices.rest(grid.tensor()), stage, stream);
  sends.join(grid.pipeline().isend(slices.mine(grid.tensor()), stage, stream));
  return sends;
}

void receive_from_stage(const Grid& grid, const TensorView& x, int stage, Stream stream) {
  if (grid.tensor().size() == 1) return grid.pipeline().recv(x, stage, stream);
  const Slices slices(x, grid.tensor());
  grid.pipeline().recv(slices.rest(grid.tensor()), stage, stream);
  grid.pipeline().recv(slices.mine(grid.tensor()), stage, stream);
  grid.tensor().all_gather(slices.shared(grid.tensor()), slices.mine(grid.tensor()), stream);
}

}  // namespace millrace
