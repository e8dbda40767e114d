// Moving rows and tokens on CUDA. Rows are moved as raw words: no arithmetic, so any dtype of a
// size.
#include "kernels/base/cuda_map.cuh"
#include "kernels/gather.hpp"

namespace millrace::cuda {
namespace {

template <typename Word>
struct GatherRows {
  Rows<Word> out;
  Rows<const Word> x;
  const std::int32_t* rows;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    store_pack(out.row(row) + column, load_pack<Word, N>(x.row(rows[row]) + column));
  }
};

struct FeedTokens {
  std::int32_t* ids;
  const std::int32_t* sampled;
  const std::int32_t* sources;

  template <int N>
  __device__ void apply(std::int64_t, int token) const {
    static_assert(N == 1);
    if (sources[token] >= 0) ids[token] = sampled[sources[token]];
  }
};

struct KeepTokens {
  std::int32_t* sampled;
  const std::int32_t* tokens;
  const std::int32_t* slots;

  template <int N>
  __device__ void apply(std::int64_t, int i) const {
    static_assert(N == 1);
    sampled[slots[i]] = tokens[i];
  }
};

template <typename Word>
void gather(const TensorView& out, const TensorView& x, const TensorView& rows, Stream stream) {
  const GatherRows<Word> functor{rows_of<Word>(out), rows_of<const Word>(x),
                                 rows.as<std::int32_t>()};
  map_rows<pack_width<Word>()>("gather_rows", functor, out.size(0), out.size(1),
                               rows_are_packed(out) && rows_are_packed(x), stream);
}

}  // namespace

void gather_rows(const TensorView& out, const TensorView& x, const TensorView& rows,
                 Stream stream) {
  switch (size_of(x.dtype())) {
    case 1:
      return gather<std::uint8_t>(out, x, rows, stream);
    case 2:
      return gather<std::uint16_t>(out, x, rows, stream);
    default:
      return gather<std::uint32_t>(out, x, rows, stream);
  }
}

void feed_tokens(const TensorView& ids, const TensorView& sampled, const TensorView& sources,
                 Stream stream) {
  const FeedTokens functor{ids.as<std::int32_t>(), sampled.as<std::int32_t>(),
                           sources.as<std::int32_t>()};
  map_rows<1>("feed_tokens", functor, 1, ids.size(0), false, stream);
}

void keep_tokens(const TensorView& sampled, const TensorView& tokens, const TensorView& slots,
                 Stream stream) {
  const KeepTokens functor{sampled.as<std::int32_t>(), tokens.as<std::int32_t>(),
                           slots.as<std::int32_t>()};
  map_rows<1>("keep_tokens", functor, 1, tokens.size(0), false, stream);
}

}  // namespace millrace::cuda
