#include "core/io/hdf5_columns.hpp"

#include <hdf5.h>

#include <array>

#include "core/io/hdf5_calls.hpp"
#include "kernels/base/error.hpp"

namespace millrace::hdf5 {
namespace {

// The type of an element in the file: little-endian on every machine.
Object file_type(Type type) {
  switch (type) {
    case Type::u8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
    case Type::i32:
      return {H5Tcopy(H5T_STD_I32LE), H5Tclose};
    case Type::i64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case Type::f32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case Type::f64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case Type::finish_reason:
      break;
  }
  Object reasons(H5Tenum_create(H5T_STD_U8LE), H5Tclose);
  constexpr std::array names = {"stop", "length", "error"};
  for (std::uint8_t value = 0; value < names.size(); ++value) {
    H5Tenum_insert(reasons.id(), names[value], &value);
  }
  return reasons;
}

// The bytes of like significance of a chunk's numbers stand together, then fast deflate. Measured
// (bench/io): files of a third of the size, for 15 us of one core per result of 128 tokens.
Object creation_properties(Type type, std::size_t chunk_rows) {
  Object properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const hsize_t chunk = chunk_rows;
  H5Pset_chunk(properties.id(), 1, &chunk);
  if (H5Zfilter_avail(H5Z_FILTER_DEFLATE) > 0) {
    if (type != Type::u8 && type != Type::finish_reason) {
      H5Pset_shuffle(properties.id());
    }
    H5Pset_deflate(properties.id(), 1);
  }
  return properties;
}

// Rows come in whole chunks: a cache of more than one is of no use.
Object access_properties() {
  Object properties(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  H5Pset_chunk_cache(properties.id(), 1, chunk_bytes, 1.0);
  return properties;
}

Object open_dataset(const Object& parent, const std::string& name, const Object& access) {
  require_own_link(parent, name);
  Object dataset(check(H5Dopen2(parent.id(), name.c_str(), access.id()), parent.id(), "read"),
                 H5Dclose);
  const Object properties(H5Dget_create_plist(dataset.id()), H5Pclose);
  if (H5Pget_external_count(properties.id()) != 0 ||
      H5Pget_layout(properties.id()) == H5D_VIRTUAL) {
    throw UserError("{}: {} lies in other files, which are not read", file_name(parent.id()), name);
  }
  return dataset;
}

}  // namespace

void write_strings(const Object& parent, const std::string& name,
                   std::span<const std::string> values) {
  const Object type = text_type();
  const hsize_t rows = values.size();
  const Object rows_space = space(H5Screate_simple(1, &rows, nullptr));
  const Object dataset(check(H5Dcreate2(parent.id(), name.c_str(), type.id(), rows_space.id(),
                                        H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                             parent.id(), "write"),
                       H5Dclose);
  std::vector<const char*> texts;
  for (const std::string& value : values) {
    texts.push_back(value.c_str());
  }
  if (rows > 0) {
    check(H5Dwrite(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   static_cast<const void*>(texts.data())),
          parent.id(), "write");
  }
}

std::vector<std::string> read_strings(const Object& parent, const std::string& name) {
  const Object dataset = open_dataset(parent, name, access_properties());
  const Object rows_space = space(H5Dget_space(dataset.id()));
  const Object type = text_type();
  const std::size_t rows = table_rows(static_cast<std::uint64_t>(
      check(H5Sget_simple_extent_npoints(rows_space.id()), parent.id(), "read")));
  std::vector<char*> texts(rows, nullptr);
  if (rows > 0) {
    check(H5Dread(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                  static_cast<void*>(texts.data())),
          parent.id(), "read");
  }
  std::vector<std::string> values;
  for (char* text : texts) {
    values.emplace_back(text == nullptr ? "" : text);
    H5free_memory(text);
  }
  return values;
}

DatasetWriter::DatasetWriter(const Object& parent, const std::string& name, Type type,
                             std::size_t chunk_rows)
    : type_(type) {
  const hsize_t none = 0;
  const hsize_t unlimited = H5S_UNLIMITED;
  const Object rows_space = space(H5Screate_simple(1, &none, &unlimited));
  dataset_ = {check(H5Dcreate2(parent.id(), name.c_str(), file_type(type).id(), rows_space.id(),
                               H5P_DEFAULT, creation_properties(type, chunk_rows).id(),
                               access_properties().id()),
                    parent.id(), "write"),
              H5Dclose};
}

void DatasetWriter::append(const void* rows, std::size_t count) {
  if (count == 0) {
    return;
  }
  const hsize_t begin = rows_;
  const hsize_t length = count;
  rows_ += count;
  const hsize_t total = rows_;
  check(H5Dset_extent(dataset_.id(), &total), dataset_.id(), "write");
  const Object target = space(H5Dget_space(dataset_.id()));
  H5Sselect_hyperslab(target.id(), H5S_SELECT_SET, &begin, nullptr, &length, nullptr);
  const Object memory = space(H5Screate_simple(1, &length, nullptr));
  check(H5Dwrite(dataset_.id(), file_type(type_).id(), memory.id(), target.id(), H5P_DEFAULT, rows),
        dataset_.id(), "write");
}

DatasetReader::DatasetReader(const Object& parent, const std::string& name, Type type)
    : type_(type) {
  dataset_ = open_dataset(parent, name, access_properties());
  const Object rows_space = space(H5Dget_space(dataset_.id()));
  if (H5Sget_simple_extent_ndims(rows_space.id()) != 1) {
    throw UserError("{} is damaged: {} is no column", file_name(parent.id()), name);
  }
  rows_ = static_cast<std::uint64_t>(
      check(H5Sget_simple_extent_npoints(rows_space.id()), parent.id(), "read"));
}

void DatasetReader::read(std::uint64_t begin, void* rows, std::size_t count) const {
  if (begin > rows_ || count > rows_ - begin) {
    throw UserError("{} is damaged: a column has {} rows where {} are needed",
                    file_name(dataset_.id()), rows_, begin + count);
  }
  const hsize_t from = begin;
  const hsize_t length = count;
  const Object source = space(H5Dget_space(dataset_.id()));
  H5Sselect_hyperslab(source.id(), H5S_SELECT_SET, &from, nullptr, &length, nullptr);
  const Object memory = space(H5Screate_simple(1, &length, nullptr));
  check(H5Dread(dataset_.id(), file_type(type_).id(), memory.id(), source.id(), H5P_DEFAULT, rows),
        dataset_.id(), "read");
}

void refuse_value(const Object& parent, std::string_view column, double value) {
  throw UserError("{} is damaged: {} holds {}", file_name(parent.id()), column, value);
}

std::size_t table_rows(std::uint64_t rows) {
  constexpr std::uint64_t most = std::uint64_t{1} << 22;
  if (rows > most) {
    throw UserError("the result file is damaged: a table has {} rows, the limit is {}", rows, most);
  }
  return static_cast<std::size_t>(rows);
}

std::uint64_t OffsetsReader::next() {
  constexpr std::int64_t longest_row = std::int64_t{1} << 30;
  const std::int64_t begin = end_;
  end_ = column_.next();
  if (end_ < begin || end_ - begin > longest_row) {
    throw UserError("the result file is damaged: offset {} is followed by {}", begin, end_);
  }
  return static_cast<std::uint64_t>(end_ - begin);
}

}  // namespace millrace::hdf5
