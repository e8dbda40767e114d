#include "core/weights/file_tensor.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <vector>

#include "core/weights/convert.hpp"
#include "kernels/base/check.hpp"

namespace millrace {
namespace {

constexpr std::int64_t part_bytes = std::int64_t{4} << 20;

// The rectangle in units of the file: of every row, the blocks that hold the wanted columns.
struct Rectangle {
  const CheckpointFile& file;
  StorageType type;
  std::int64_t offset;         // of the first wanted block
  std::int64_t row_bytes;      // from row to row
  std::int64_t wanted_bytes;   // of each row
  std::int64_t first_element;  // in front of the wanted columns, in the first block
  std::int64_t elements;       // in the wanted blocks
  TensorView out;

  std::int64_t columns() const { return out.size(1); }
  bool has_whole_rows() const { return row_bytes == wanted_bytes; }

  std::byte* out_row(std::int64_t row) const {
    return static_cast<std::byte*>(out.data()) +
           row * out.stride(0) * static_cast<std::int64_t>(size_of(out.dtype()));
  }

  void convert_row(const std::byte* from, std::int64_t row, std::vector<std::byte>& edge) const {
    if (elements == columns()) {
      convert_elements(type, from, elements, out.dtype(), out_row(row));
      return;
    }
    const auto width = static_cast<std::int64_t>(size_of(out.dtype()));
    edge.resize(static_cast<std::size_t>(elements * width));
    convert_elements(type, from, elements, out.dtype(), edge.data());
    std::memcpy(out_row(row), edge.data() + first_element * width,
                static_cast<std::size_t>(columns() * width));
  }

  // Rows [begin, end), which lie contiguously in the file or are one.
  void read_rows(std::int64_t begin, std::int64_t end, std::vector<std::byte>& raw,
                 std::vector<std::byte>& edge) const {
    const std::int64_t bytes = (end - begin) * wanted_bytes;
    const std::int64_t from = offset + begin * row_bytes;
    const bool direct =
        is_stored_as(type, out.dtype()) && (end - begin == 1 || out.stride(0) == columns());
    if (direct) {
      file.read(from, {out_row(begin), static_cast<std::size_t>(bytes)});
      return;
    }
    raw.resize(static_cast<std::size_t>(bytes));
    file.read(from, raw);
    for (std::int64_t row = begin; row < end; ++row) {
      convert_row(raw.data() + (row - begin) * wanted_bytes, row, edge);
    }
  }
};

void read_parts(const Rectangle& rectangle) {
  const std::int64_t rows = rectangle.out.size(0);
  const std::int64_t rows_per_read =
      rectangle.has_whole_rows() ? std::max<std::int64_t>(1, part_bytes / rectangle.wanted_bytes)
                                 : 1;
  // Threads take whole parts; when single rows are read, a part is many of them.
  const std::int64_t rows_per_part =
      std::max(rows_per_read, part_bytes / std::max<std::int64_t>(1, rectangle.wanted_bytes));
  const std::int64_t parts = (rows + rows_per_part - 1) / rows_per_part;
  std::exception_ptr error;
  std::mutex error_mutex;
  std::atomic<bool> failed = false;
#pragma omp parallel if (parts > 1)
  {
    std::vector<std::byte> raw;
    std::vector<std::byte> edge;
#pragma omp for schedule(dynamic)
    for (std::int64_t part = 0; part < parts; ++part) {
      if (failed) continue;
      try {
        const std::int64_t end = std::min(rows, (part + 1) * rows_per_part);
        for (std::int64_t row = part * rows_per_part; row < end; row += rows_per_read) {
          rectangle.read_rows(row, std::min(end, row + rows_per_read), raw, edge);
        }
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace

void check_rectangle(const CheckpointTensor& tensor, Range rows, Range columns,
                     const TensorView& out) {
  const std::size_t rank = tensor.shape.size();
  check(rank <= 2, "read", "a checkpoint tensor has more than two dimensions");
  const std::int64_t height = rank > 0 ? tensor.shape[0] : 1;
  const std::int64_t width = rank == 2 ? tensor.shape[1] : 1;
  check(rows.begin >= 0 && rows.count >= 0 && rows.end() <= height && columns.begin >= 0 &&
            columns.count >= 0 && columns.end() <= width,
        "read", "the rectangle lies outside the tensor");
  check(out.device().is_cpu() && out.rank() == 2 && out.size(0) == rows.count &&
            out.size(1) == columns.count,
        "read", "the output has another shape than the rectangle");
}

std::int64_t read_rectangle(const CheckpointFile& file, std::int64_t offset,
                            const CheckpointTensor& tensor, Range rows, Range columns,
                            const TensorView& out) {
  check_rectangle(tensor, rows, columns, out);
  if (rows.count == 0 || columns.count == 0) return 0;
  if (tensor.shape.size() == 1 && out.is_contiguous()) {
    // A vector is better read as one row.
    CheckpointTensor row = tensor;
    row.shape.insert(row.shape.begin(), 1);
    return read_rectangle(file, offset, row, {0, 1}, rows, out.reshape({1, rows.count}));
  }
  const std::int64_t width = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
  const std::int64_t block = block_elements(tensor.type);
  const std::int64_t bytes = block_bytes(tensor.type);
  const std::int64_t first_block = columns.begin / block;
  const std::int64_t blocks = (columns.end() + block - 1) / block - first_block;
  const std::int64_t row_bytes = width / block * bytes;
  const Rectangle rectangle{.file = file,
                            .type = tensor.type,
                            .offset = offset + rows.begin * row_bytes + first_block * bytes,
                            .row_bytes = row_bytes,
                            .wanted_bytes = blocks * bytes,
                            .first_element = columns.begin - first_block * block,
                            .elements = blocks * block,
                            .out = out};
  read_parts(rectangle);
  return rows.count * rectangle.wanted_bytes;
}

}  // namespace millrace
