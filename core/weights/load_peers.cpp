#include "core/weights/load_peers.hpp"

#include <algorithm>
#include <cstring>

#include "comm/relay.hpp"

namespace millrace {
namespace {

void copy_columns(const TensorView& from, std::int64_t column, const TensorView& to) {
  const std::size_t element = size_of(to.dtype());
  const auto row_bytes = static_cast<std::size_t>(to.size(1)) * element;
  for (std::int64_t row = 0; row < to.size(0); ++row) {
    std::memcpy(static_cast<std::byte*>(to.data()) + static_cast<std::size_t>(row) * row_bytes,
                static_cast<const std::byte*>(from.data()) +
                    static_cast<std::size_t>(row * from.stride(0) + column) * element,
                row_bytes);
  }
}

}  // namespace

RowSharers no_sharers(const TensorSlice& slice, int tensor_rank) {
  return {{tensor_rank}, {slice.columns}, slice.columns};
}

RowSharers sharers_of(const TensorSpec& weight, const ModelSpec& spec, const LoadPeers& peers) {
  const auto slice_on = [&](int rank) {
    return slice_of(weight, spec, peers.tensor_slices[static_cast<std::size_t>(rank)]);
  };
  const TensorSlice mine = *slice_on(peers.tensor.rank());
  RowSharers sharers;
  std::int64_t begin = mine.columns.begin;
  std::int64_t end = mine.columns.end();
  for (int rank = 0; rank < peers.tensor.size(); ++rank) {
    const std::optional<TensorSlice> slice = slice_on(rank);
    if (!slice || !(slice->rows == mine.rows)) continue;
    sharers.ranks.push_back(rank);
    sharers.columns.push_back(slice->columns);
    begin = std::min(begin, slice->columns.begin);
    end = std::max(end, slice->columns.end());
  }
  sharers.all_columns = {begin, end - begin};
  return sharers;
}

SharedPiece share_piece(const RowSharers& sharers, int replicas, std::int64_t number) {
  const auto tensor = static_cast<std::int64_t>(sharers.ranks.size());
  return {static_cast<int>(number / tensor % replicas),
          sharers.ranks[static_cast<std::size_t>(number % tensor)], sharers.all_columns};
}

void share_columns(const LoadPeers& peers, const RowSharers& sharers, const SharedPiece& piece,
                   const TensorView& read, const TensorView& mine) {
  if (peers.replicas.rank() != piece.reader_replica) return;
  const int me = peers.tensor.rank();
  if (me != piece.reader_tensor) {
    peers.tensor.recv(mine, piece.reader_tensor, {});
    return;
  }
  for (std::size_t i = 0; i < sharers.ranks.size(); ++i) {
    const Range columns = sharers.columns[i];
    const std::int64_t column = columns.begin - piece.read_columns.begin;
    if (sharers.ranks[i] == me) {
      if (read.data() != mine.data()) copy_columns(read, column, mine);
    } else if (columns == piece.read_columns) {
      peers.tensor.send(read, sharers.ranks[i], {});
    } else {
      const Tensor part(read.dtype(), Device::cpu(), {read.size(0), columns.count});
      copy_columns(read, column, part);
      peers.tensor.send(part, sharers.ranks[i], {});
    }
  }
}

void share_replicas(const LoadPeers& peers, const SharedPiece& piece, const TensorView& mine,
                    std::vector<SendHandle>& sends) {
  const Comm& comm = peers.replicas;
  const auto rank_at = [&](int place) { return (place + piece.reader_replica) % comm.size(); };
  const int place = (comm.rank() - piece.reader_replica + comm.size()) % comm.size();
  if (place > 0) comm.recv(mine, rank_at(relay_from(place)), {});
  for (const int to : relay_to(place, comm.size())) {
    sends.push_back(comm.isend(mine, rank_at(to), {}));
  }
}

}  // namespace millrace
