#include "core/weights/load_peers.hpp"

#include <algorithm>

#include "comm/relay.hpp"
#include "kernels/copy_rows.hpp"

namespace millrace {
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

Range columns_of(const RowSharers& sharers, int rank) {
  const auto at = std::ranges::find(sharers.ranks, rank);
  return sharers.columns[static_cast<std::size_t>(at - sharers.ranks.begin())];
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
      if (read.data() != mine.data()) copy_rows(mine, read.slice(1, column, columns.count), {});
    } else if (columns == piece.read_columns) {
      peers.tensor.send(read, sharers.ranks[i], {});
    } else {
      const Tensor part(read.dtype(), Device::cpu(), {read.size(0), columns.count});
      copy_rows(part, read.slice(1, column, columns.count), {});
      peers.tensor.send(part, sharers.ranks[i], {});
    }
  }
}

void share_columns_of_gpus(const LoadPeers& peers, const RowSharers& sharers,
                           const SharedPiece& piece, const TensorView& read, const TensorView& mine,
                           void* part,
                           const std::function<void(const std::function<void()>&)>& attempt,
                           Stream stream) {
  const int me = peers.tensor.rank();
  if (me != piece.reader_tensor) {
    peers.tensor.recv(mine, piece.reader_tensor, stream);
    return;
  }
  const auto copy_of = [&](const TensorView& to, Range columns) {
    const std::int64_t column = columns.begin - piece.read_columns.begin;
    attempt([&] { copy_rows(to, read.slice(1, column, columns.count), stream); });
  };
  const Range my_columns = columns_of(sharers, me);
  copy_of(mine, my_columns);
  for (std::size_t i = 0; i < sharers.ranks.size(); ++i) {
    if (sharers.ranks[i] == me) continue;
    const Range columns = sharers.columns[i];
    TensorView theirs = mine;
    if (!(columns == my_columns)) {
      theirs = TensorView(part, read.dtype(), stream.device, {read.size(0), columns.count});
      copy_of(theirs, columns);
    }
    peers.tensor.send(theirs, sharers.ranks[i], stream);
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
