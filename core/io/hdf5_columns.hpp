// Columns of an HDF5 file. A column is a one-dimensional extendible dataset; a ragged column is a
// group of `values` and `offsets`, where row i is values[offsets[i]] to values[offsets[i + 1]]
// (HDF5 strings end at NUL, these do not). Rows are buffered and written a chunk at a time, so
// memory does not depend on their number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/io/hdf5.hpp"

namespace millrace::hdf5 {

// A column of variable-length strings, written and read at once: for short tables.
void write_strings(const Object& parent, const std::string& name,
                   std::span<const std::string> values);
std::vector<std::string> read_strings(const Object& parent, const std::string& name);

// What an element is in the file. finish_reason is an enumeration of one byte: stop, length, error.
enum class Type : std::uint8_t { u8, i32, i64, f32, f64, finish_reason };

// Appends to a dataset; the untyped part of ColumnWriter.
class DatasetWriter {
 public:
  DatasetWriter(const Object& parent, const std::string& name, Type type, std::size_t chunk_rows);
  void append(const void* rows, std::size_t count);

 private:
  Object dataset_;
  Type type_;
  std::uint64_t rows_ = 0;
};

// A value of a column, or a UserError that names the file and the column when it is not in
// [low, high]: files come from anywhere, and sizes, places and times are computed with.
[[noreturn]] void refuse_value(const Object& parent, std::string_view column, double value);
template <typename T>
T in_range(const Object& parent, std::string_view column, T value, T low, T high) {
  if (!(value >= low && value <= high)) {  // NaN is neither
    refuse_value(parent, column, static_cast<double>(value));
  }
  return value;
}

// Rows of a table that is read as a whole, which may claim any number: throws beyond 2^22.
std::size_t table_rows(std::uint64_t rows);

class DatasetReader {
 public:
  DatasetReader(const Object& parent, const std::string& name, Type type);
  std::uint64_t size() const { return rows_; }
  // Throws when [begin, begin + count) goes beyond the end.
  void read(std::uint64_t begin, void* rows, std::size_t count) const;

 private:
  Object dataset_;
  Type type_;
  std::uint64_t rows_ = 0;
};

template <typename T>
inline constexpr Type type_of = Type::u8;
template <>
inline constexpr Type type_of<std::int32_t> = Type::i32;
template <>
inline constexpr Type type_of<std::int64_t> = Type::i64;
template <>
inline constexpr Type type_of<float> = Type::f32;
template <>
inline constexpr Type type_of<double> = Type::f64;

inline constexpr std::size_t chunk_bytes = 64 << 10;

template <typename T>
class ColumnWriter {
 public:
  ColumnWriter(const Object& parent, const std::string& name, Type type = type_of<T>)
      : dataset_(parent, name, type, chunk_rows) {
    buffer_.reserve(chunk_rows);
  }
  void append(T row) {
    buffer_.push_back(row);
    if (buffer_.size() == chunk_rows) {
      flush();
    }
  }
  void append(std::span<const T> rows) {
    while (!rows.empty()) {
      const std::size_t count = std::min(rows.size(), chunk_rows - buffer_.size());
      buffer_.insert(buffer_.end(), rows.begin(),
                     rows.begin() + static_cast<std::ptrdiff_t>(count));
      rows = rows.subspan(count);
      if (buffer_.size() == chunk_rows) {
        flush();
      }
    }
  }
  // Once, after the last row.
  void flush() {
    dataset_.append(buffer_.data(), buffer_.size());
    buffer_.clear();
  }

 private:
  static constexpr std::size_t chunk_rows = chunk_bytes / sizeof(T);
  DatasetWriter dataset_;
  std::vector<T> buffer_;
};

// Ends of rows within something that grows: offsets[0] is 0, row i is [offsets[i], offsets[i + 1]).
class OffsetsWriter {
 public:
  OffsetsWriter(const Object& parent, const std::string& name) : column_(parent, name) {
    column_.append(0);
  }
  void append(std::size_t row_length) {
    end_ += static_cast<std::int64_t>(row_length);
    column_.append(end_);
  }
  void flush() { column_.flush(); }

 private:
  ColumnWriter<std::int64_t> column_;
  std::int64_t end_ = 0;
};

template <typename T>
class RaggedWriter {
 public:
  RaggedWriter(const Object& parent, const std::string& name)
      : group_(create_group(parent, name)),
        values_(group_, "values"),
        offsets_(group_, "offsets") {}
  void append(std::span<const T> row) {
    values_.append(row);
    offsets_.append(row.size());
  }
  void append(std::string_view row) requires std::is_same_v<T, std::uint8_t> {
    append(std::span(reinterpret_cast<const std::uint8_t*>(row.data()), row.size()));
  }
  void flush() {
    values_.flush();
    offsets_.flush();
  }

 private:
  Object group_;
  ColumnWriter<T> values_;
  OffsetsWriter offsets_;
};

// Reads rows front to back through a window.
template <typename T>
class ColumnReader {
 public:
  ColumnReader(const Object& parent, const std::string& name, Type type = type_of<T>)
      : dataset_(parent, name, type) {}
  std::uint64_t size() const { return dataset_.size(); }
  // Rows that next() has not given yet.
  std::uint64_t left() const { return size() - at_; }
  T next() {
    if (at_ - window_at_ == window_.size()) {
      fill(1);
    }
    return window_[static_cast<std::size_t>(at_++ - window_at_)];
  }
  // The next `count` rows.
  std::vector<T> next(std::uint64_t count) {
    std::vector<T> rows;
    while (rows.size() < count) {
      if (at_ - window_at_ == window_.size()) {
        fill(count - rows.size());
      }
      const auto from = window_.begin() + static_cast<std::ptrdiff_t>(at_ - window_at_);
      const auto taken = std::min<std::ptrdiff_t>(window_.end() - from,
                                                  static_cast<std::ptrdiff_t>(count - rows.size()));
      rows.insert(rows.end(), from, from + taken);
      at_ += static_cast<std::uint64_t>(taken);
    }
    return rows;
  }

 private:
  void fill(std::uint64_t wanted) {
    window_at_ = at_;
    // Asking for more than there is throws in read().
    const std::uint64_t least = std::min<std::uint64_t>(wanted, chunk_bytes);
    window_.resize(static_cast<std::size_t>(
        std::max(least, std::min<std::uint64_t>(left(), chunk_bytes / sizeof(T)))));
    dataset_.read(at_, window_.data(), window_.size());
  }

  DatasetReader dataset_;
  std::uint64_t at_ = 0;
  std::vector<T> window_;
  std::uint64_t window_at_ = 0;
};

// Lengths of rows from their offsets.
class OffsetsReader {
 public:
  OffsetsReader(const Object& parent, const std::string& name)
      : column_(parent, name), end_(column_.next()) {}
  // Throws when offsets decrease, or claim a row of more than 2^30 elements.
  std::uint64_t next();

 private:
  ColumnReader<std::int64_t> column_;
  std::int64_t end_;
};

template <typename T>
class RaggedReader {
 public:
  RaggedReader(const Object& parent, const std::string& name)
      : group_(open_group(parent, name)), values_(group_, "values"), offsets_(group_, "offsets") {}
  std::vector<T> next() { return values_.next(offsets_.next()); }
  std::string next_text() requires std::is_same_v<T, std::uint8_t> {
    const std::vector<T> bytes = next();
    return {bytes.begin(), bytes.end()};
  }

 private:
  Object group_;
  ColumnReader<T> values_;
  OffsetsReader offsets_;
};

}  // namespace millrace::hdf5
