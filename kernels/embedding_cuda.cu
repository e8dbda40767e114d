// Table look-ups on CUDA, 16 bytes a thread.
#include "kernels/embedding.hpp"

#include "kernels/base/cuda_map.cuh"

namespace millrace::cuda {
namespace {

template <typename T>
struct Embed {
  Rows<T> out;
  const std::int32_t* ids;
  Rows<const T> table;
  std::int64_t vocab_begin;
  std::int64_t vocab_local;
  float scale;

  template <int N>
  __device__ void apply(std::int64_t token, int column) const {
    const std::int64_t local = ids[token] - vocab_begin;
    Pack<T, N> pack{};
    if (local >= 0 && local < vocab_local) {
      pack = load_pack<T, N>(table.row(local) + column);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        pack.values[i] = from_float<T>(scale * to_float(pack.values[i]));
      }
    }
    store_pack(out.row(token) + column, pack);
  }
};

template <typename T>
struct AddPosition {
  Rows<T> out;
  const std::int32_t* positions;
  Rows<const T> table;
  std::int64_t offset;

  template <int N>
  __device__ void apply(std::int64_t token, int column) const {
    Pack<T, N> pack = load_pack<T, N>(out.row(token) + column);
    const Pack<T, N> row = load_pack<T, N>(table.row(positions[token] + offset) + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      pack.values[i] = from_float<T>(to_float(pack.values[i]) + to_float(row.values[i]));
    }
    store_pack(out.row(token) + column, pack);
  }
};

}  // namespace

void embedding(const TensorView& out, const TensorView& ids, const LinearWeight& table,
               std::int64_t vocab_begin, float scale, Stream stream) {
  const TensorView& rows = table.data;
  if (rows.dtype() != out.dtype()) throw_no_kernel("embedding", rows.dtype());
  with_float_type("embedding", out.dtype(), [&](auto element) {
    using T = decltype(element);
    const Embed<T> functor{rows_of<T>(out),
                           ids.as<std::int32_t>(),
                           rows_of<const T>(rows),
                           vocab_begin,
                           table.n,
                           scale};
    map_rows<pack_width<T>()>("embedding", functor, out.size(0), out.size(1),
                              rows_are_packed(out) && rows_are_packed(rows), stream);
  });
}

void add_position_embedding(const TensorView& out, const TensorView& positions,
                            const TensorView& table, std::int64_t offset, Stream stream) {
  with_float_type("add_position_embedding", out.dtype(), [&](auto element) {
    using T = decltype(element);
    const AddPosition<T> functor{rows_of<T>(out), positions.as<std::int32_t>(),
                                 rows_of<const T>(table), offset};
    map_rows<pack_width<T>()>("add_position_embedding", functor, out.size(0), out.size(1),
                              rows_are_packed(out) && rows_are_packed(table), stream);
  });
}

}  // namespace millrace::cuda
