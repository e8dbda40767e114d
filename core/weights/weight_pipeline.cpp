#include "core/weights/weight_pipeline.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/weights/read_ahead.hpp"
#include "core/weights/read_weight.hpp"

namespace millrace {
namespace {

// Rows of a piece are a multiple of this, so that no block of a quantized weight is cut.
constexpr std::int64_t row_granule = 128;
// Between hosts' memories smaller pieces than to a GPU, so that many ranks read at the same time.
constexpr std::int64_t host_piece_bytes = std::int64_t{16} << 20;
constexpr std::size_t host_slots = 2;
constexpr std::size_t device_slots = 3;  // one read, one waiting, one being copied

// Depends on what all ranks that share the weight agree on alone.
std::int64_t rows_per_piece(const TensorSpec& weight, DType dtype, std::int64_t piece_bytes) {
  const std::int64_t columns = weight.shape.size() == 2 ? weight.shape[1] : 1;
  const std::int64_t granule =
      std::lcm(row_granule, std::max<std::int64_t>(1, weight.interleaved_head_dim));
  const std::int64_t rows = piece_bytes / (columns * static_cast<std::int64_t>(size_of(dtype)));
  return std::max(granule, rows / granule * granule);
}

}  // namespace

WeightPipeline::WeightPipeline(Checkpoint& checkpoint, const LoadPeers* peers,
                               std::int64_t piece_bytes, Stream stream)
    : checkpoint_(checkpoint),
      peers_(peers),
      piece_bytes_(stream.device.is_cpu() ? std::min(piece_bytes, host_piece_bytes) : piece_bytes),
      stream_(stream) {}

void WeightPipeline::add(std::vector<WeightPart> parts, std::int64_t rows, DType dtype, Take take) {
  const std::int64_t columns = parts.front().slice.columns.count;
  matrices_.push_back(
      std::make_unique<Matrix>(Matrix{std::move(parts), rows, columns, dtype, std::move(take),
                                      std::exchange(agrees_next_, false)}));
}

std::vector<WeightPipeline::Piece> WeightPipeline::pieces_of(const Matrix& matrix) const {
  std::vector<Piece> pieces;
  std::int64_t row = 0;
  for (const WeightPart& part : matrix.parts) {
    const Range rows = part.slice.rows;
    const bool is_cut = peers_ != nullptr || stream_.device.is_cuda();
    const std::int64_t step =
        is_cut ? rows_per_piece(part.spec, matrix.dtype, piece_bytes_) : rows.count;
    std::int64_t number = part.number;
    for (std::int64_t from = 0; from < rows.count; from += step, ++number) {
      Piece piece{&part,
                  {{rows.begin + from, std::min(step, rows.count - from)}, part.slice.columns},
                  row + from,
                  {}};
      piece.shared =
          share_piece(part.sharers, peers_ != nullptr ? peers_->replicas.size() : 1, number);
      pieces.push_back(std::move(piece));
    }
    row += rows.count;
  }
  return pieces;
}

// Cuts a matrix into what is read at a time, and notes the memory that takes.
void WeightPipeline::make_batches(const Matrix& matrix) {
  std::vector<Piece> pieces = pieces_of(matrix);
  const std::size_t first_batch = batches_.size();
  const auto element = size_of(matrix.dtype);
  const auto row_bytes = static_cast<std::size_t>(matrix.columns) * element;
  const bool is_on_host = stream_.device.is_cpu();
  std::size_t apart = 0;
  for (Piece& piece : pieces) {
    piece.apart = is_on_host ? apart : 0;
    if (!is_apart(piece)) continue;
    const auto rows = static_cast<std::size_t>(piece.slice.rows.count);
    const auto columns = static_cast<std::size_t>(piece.shared.read_columns.count);
    apart = piece.apart + rows * columns * element;
    apart_bytes_ = std::max(apart_bytes_, apart);
  }
  if (is_on_host) {
    slot_bytes_ = std::max(slot_bytes_, static_cast<std::size_t>(matrix.rows) * row_bytes);
    batches_.push_back({&matrix, std::move(pieces), 0, matrix.rows, true, matrix.agrees_first});
    return;
  }
  if (pieces.empty()) batches_.push_back({&matrix, {}, 0, 0, true});
  for (const Piece& piece : pieces) {
    const std::int64_t rows = piece.slice.rows.count;
    if (peers_ != nullptr && is_read_here(piece)) {
      const auto columns = static_cast<std::size_t>(piece.shared.read_columns.count);
      part_bytes_ = std::max(part_bytes_, static_cast<std::size_t>(rows) * columns * element);
    }
    if (!is_made_there(piece)) {
      slot_bytes_ = std::max(slot_bytes_, static_cast<std::size_t>(rows) * row_bytes);
    }
    batches_.push_back({&matrix, {piece}, piece.row, rows, &piece == &pieces.back()});
  }
  batches_[first_batch].agrees_first = matrix.agrees_first;
}

void WeightPipeline::prepare() {
  std::size_t matrix_bytes = 0;
  for (const auto& matrix : matrices_) {
    make_batches(*matrix);
    const auto row_bytes = static_cast<std::size_t>(matrix->columns) * size_of(matrix->dtype);
    matrix_bytes = std::max(matrix_bytes, static_cast<std::size_t>(matrix->rows) * row_bytes);
  }
  const bool is_on_host = stream_.device.is_cpu();
  if (!is_on_host) {
    device_matrix_ = Buffer(matrix_bytes, stream_.device);
    device_part_ = Buffer(part_bytes_, stream_.device);
  }
  const std::size_t slots = is_on_host ? host_slots : device_slots;
  for (std::size_t i = 0; i < std::min(batches_.size(), slots); ++i) {
    slots_.push_back({HostBuffer(slot_bytes_, stream_.device),
                      HostBuffer(apart_bytes_, stream_.device), Event(stream_.device)});
  }
}

// In the matrix on the GPU, so that nothing is read.
bool WeightPipeline::is_made_there(const Piece& piece) const {
  return checkpoint_.maker() != nullptr && peers_ == nullptr && stream_.device.is_cuda() &&
         piece.part->spec.interleaved_head_dim == 0;
}

bool WeightPipeline::is_read_here(const Piece& piece) const {
  return peers_ == nullptr || (peers_->replicas.rank() == piece.shared.reader_replica &&
                               peers_->tensor.rank() == piece.shared.reader_tensor);
}

// Read here, with columns that only other ranks hold.
bool WeightPipeline::is_apart(const Piece& piece) const {
  return is_read_here(piece) && !(piece.shared.read_columns == piece.slice.columns);
}

// Where this rank's columns of the piece lie in host memory.
TensorView WeightPipeline::in_place(const Batch& batch, const Piece& piece,
                                    const Slot& slot) const {
  const TensorView all(slot.memory.data(), batch.matrix->dtype, Device::cpu(),
                       {batch.rows, batch.matrix->columns});
  return all.slice(0, piece.row - batch.first_row, piece.slice.rows.count);
}

// Where the reader puts what it reads of the piece.
TensorView WeightPipeline::as_read(const Batch& batch, const Piece& piece, const Slot& slot) const {
  if (!is_apart(piece)) return in_place(batch, piece, slot);
  return {static_cast<std::byte*>(slot.apart.data()) + piece.apart,
          batch.matrix->dtype,
          Device::cpu(),
          {piece.slice.rows.count, piece.shared.read_columns.count}};
}

// On the reading thread.
void WeightPipeline::read(const Batch& batch, const Slot& slot) {
  for (const Piece& piece : batch.pieces) {
    if (!is_read_here(piece) || is_made_there(piece)) continue;
    read_weight(checkpoint_, piece.part->stored, piece.part->spec,
                {piece.slice.rows, piece.shared.read_columns}, as_read(batch, piece, slot));
  }
}

// The whole matrix, where its taker gets it.
TensorView WeightPipeline::target(const Matrix& matrix, const Slot& slot) const {
  void* const data = stream_.device.is_cpu() ? slot.memory.data() : device_matrix_.data();
  return {data, matrix.dtype, stream_.device, {matrix.rows, matrix.columns}};
}

void WeightPipeline::finish(const Batch& batch, Slot& slot) {
  const TensorView matrix = target(*batch.matrix, slot);
  std::vector<SendHandle> sends;
  std::int64_t end = 0;
  for (const Piece& piece : batch.pieces) {
    const TensorView host = in_place(batch, piece, slot);
    const TensorView there = matrix.slice(0, piece.row, piece.slice.rows.count);
    end = piece.row + piece.slice.rows.count;
    const bool is_here =
        peers_ == nullptr || peers_->replicas.rank() == piece.shared.reader_replica;
    if (is_made_there(piece)) {
      make_weight(*checkpoint_.maker(), piece.part->stored, piece.part->spec, piece.slice, there,
                  stream_);
    } else if (peers_ == nullptr) {
      if (!stream_.device.is_cpu()) copy(there, host, stream_);
    } else if (stream_.device.is_cpu()) {
      share_columns(*peers_, piece.part->sharers, piece.shared, as_read(batch, piece, slot), host);
      share_replicas(*peers_, piece.shared, host, sends);
    } else {
      if (is_here) {
        const auto mine = [&](auto&& copied) { attempt(copied); };
        share_columns_of_gpus(*peers_, piece.part->sharers, piece.shared,
                              as_read(batch, piece, slot), there, device_part_.data(), mine,
                              stream_);
      }
      peers_->replicas.broadcast(there, piece.shared.reader_replica, stream_);
    }
  }
  attempt([&] { slot.copied.record(stream_); });
  if (batch.is_last) attempt([&] { give(*batch.matrix, matrix, end); });
  for (SendHandle& send : sends) send.wait();
}

// Rows from `end` on are in no checkpoint.
void WeightPipeline::give(const Matrix& matrix, const TensorView& view, std::int64_t end) const {
  const TensorView padding = view.slice(0, end, matrix.rows - end);
  if (!padding.empty()) fill_bytes(padding.data(), 0, padding.bytes(), stream_);
  matrix.take(view);
}

// What this rank does for itself. When that fails and others count on this rank, it goes on to the
// next agreement, so that nobody waits for it.
template <typename Step>
void WeightPipeline::attempt(Step&& step) {
  try {
    step();
  } catch (...) {
    if (peers_ == nullptr) throw;
    if (!error_) error_ = std::current_exception();
  }
}

// On any of the ranks that load together. Collective over them.
bool WeightPipeline::has_anyone_failed() const {
  const std::int64_t among_tensor = peers_->tensor.all_reduce_max(error_ ? 1 : 0);
  return peers_->replicas.all_reduce_max(among_tensor) != 0;
}

void WeightPipeline::run() {
  ReadAhead ahead(batches_.size(), std::max<std::size_t>(1, slots_.size()),
                  [this](std::size_t turn) { read(batches_[turn], slots_[turn % slots_.size()]); });
  for (std::size_t turn = 0; turn < batches_.size(); ++turn) {
    if (peers_ != nullptr && batches_[turn].agrees_first && has_anyone_failed()) break;
    attempt([&] { ahead.wait(turn); });
    finish(batches_[turn], slots_[turn % slots_.size()]);
    // On the CPU everything is done; a GPU's copy of the batch before has had this one's time.
    if (stream_.device.is_cpu()) {
      ahead.release();
    } else if (turn > 0) {
      attempt([&] { slots_[(turn - 1) % slots_.size()].copied.wait(); });
      ahead.release();
    }
  }
  if (error_) std::rethrow_exception(error_);
}

}  // namespace millrace
