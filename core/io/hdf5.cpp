#include "core/io/hdf5.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "kernels/base/error.hpp"

namespace millrace::hdf5 {
namespace {

static_assert(std::is_same_v<hid_t, std::int64_t>);

// The innermost reason on HDF5's error stack, shortened to the system's own words where it has
// them.
std::string reason() {
  std::string text = "HDF5 error";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* error, void* data) -> herr_t {
        if (depth == 0 && error->desc != nullptr) {
          *static_cast<std::string*>(data) = error->desc;
        }
        return 0;
      },
      &text);
  constexpr std::string_view mark = "error message = '";
  if (const auto at = text.find(mark); at != std::string::npos) {
    text = text.substr(at + mark.size());
    text = text.substr(0, text.find('\''));
  }
  return text;
}

std::string file_name(hid_t object) {
  std::array<char, 4096> name{};
  if (H5Fget_name(object, name.data(), name.size()) <= 0) {
    return "the result file";
  }
  return name.data();
}

// Why the first write that failed did; empty while none has. See Object.
std::string write_failure;

// Checks what an HDF5 function returned about an object of the file in question.
template <typename Result>
Result check(Result result, hid_t object, std::string_view action) {
  if (result < 0) {
    const std::string why = write_failure.empty() ? reason() : write_failure;
    if (action == "write") {
      write_failure = why;
    }
    throw UserError("cannot {} {}: {}", action, file_name(object), why);
  }
  return result;
}

Object space(hid_t id) { return {id, H5Sclose}; }

Object text_type() {
  Object type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.id(), H5T_VARIABLE);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  return type;
}

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

// Before any other call: errors are ours to report, and at exit nothing is left to write.
void start_library() {
  static const bool started = [] {
    H5dont_atexit();
    // A file that names a filter must not make the library load one.
    H5PLset_loading_state(0);
    return H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  static_cast<void>(started);
}

Object file_access_properties() {
  start_library();
  Object properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(properties.id(), H5F_LIBVER_V18, H5F_LIBVER_LATEST);
  return properties;
}

// A file from elsewhere must not name other files of whoever reads it: as a link, or as the place
// of a dataset's bytes.
void require_own_link(const Object& parent, const std::string& name) {
  H5L_info_t link;
  check(H5Lget_info(parent.id(), name.c_str(), &link, H5P_DEFAULT), parent.id(), "read");
  if (link.type != H5L_TYPE_HARD) {
    throw UserError("{}: {} is a link to another place, which is not followed",
                    file_name(parent.id()), name);
  }
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

// One that holds a single value: H5Aread() writes as many as there are.
Object open_attribute(const Object& object, const std::string& name) {
  Object attribute(check(H5Aopen(object.id(), name.c_str(), H5P_DEFAULT), object.id(), "read"),
                   H5Aclose);
  const Object values = space(H5Aget_space(attribute.id()));
  if (H5Sget_simple_extent_npoints(values.id()) != 1) {
    throw UserError("{} is damaged: the attribute {} is no single value", file_name(object.id()),
                    name);
  }
  return attribute;
}

void write_scalar(const Object& object, const std::string& name, hid_t type, hid_t memory_type,
                  const void* value) {
  const Object scalar = space(H5Screate(H5S_SCALAR));
  const Object attribute(
      check(H5Acreate2(object.id(), name.c_str(), type, scalar.id(), H5P_DEFAULT, H5P_DEFAULT),
            object.id(), "write"),
      H5Aclose);
  check(H5Awrite(attribute.id(), memory_type, value), object.id(), "write");
}

// The text of an open attribute of variable or fixed length.
std::string text_of(const Object& attribute) {
  const Object type = text_type();
  char* text = nullptr;
  check(H5Aread(attribute.id(), type.id(), static_cast<void*>(&text)), attribute.id(), "read");
  std::string value = text == nullptr ? "" : text;
  H5free_memory(text);
  return value;
}

}  // namespace

void Object::close() {
  if (is_open() && write_failure.empty() && closer_(id_) < 0) {
    write_failure = reason();
  }
  id_ = -1;
}

Object create_file(const std::filesystem::path& path) {
  const Object access = file_access_properties();
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id());
  if (id < 0) {
    throw UserError("cannot create {}: {}", path.string(), reason());
  }
  return {id, H5Fclose};
}

Object open_file(const std::filesystem::path& path) {
  const Object access = file_access_properties();
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id());
  if (id < 0) {
    throw UserError("cannot open {}: {}", path.string(), reason());
  }
  return {id, H5Fclose};
}

void close_file(Object& file) {
  // Columns that were closed before wrote their last chunks then. Once flushed, closing the file
  // has nothing left to write.
  check(!write_failure.empty() ? -1 : H5Fflush(file.id(), H5F_SCOPE_GLOBAL), file.id(), "write");
  file.close();
}

Object create_group(const Object& parent, const std::string& name) {
  // Attributes keep the order in which they are written, and may be large.
  const Object properties(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_attr_creation_order(properties.id(), H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  return {check(H5Gcreate2(parent.id(), name.c_str(), H5P_DEFAULT, properties.id(), H5P_DEFAULT),
                parent.id(), "write"),
          H5Gclose};
}

Object open_group(const Object& parent, const std::string& name) {
  require_own_link(parent, name);
  return {check(H5Gopen2(parent.id(), name.c_str(), H5P_DEFAULT), parent.id(), "read"), H5Gclose};
}

bool exists(const Object& parent, const std::string& name) {
  return H5Lexists(parent.id(), name.c_str(), H5P_DEFAULT) > 0;
}

bool has_attribute(const Object& object, const std::string& name) {
  return H5Aexists(object.id(), name.c_str()) > 0;
}

void write_attribute(const Object& object, const std::string& name, const std::string& value) {
  const Object type = text_type();
  const char* text = value.c_str();
  write_scalar(object, name, type.id(), type.id(), static_cast<const void*>(&text));
}

void write_attribute(const Object& object, const std::string& name, std::int64_t value) {
  write_scalar(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

void write_attribute(const Object& object, const std::string& name, double value) {
  write_scalar(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

std::string read_text_attribute(const Object& object, const std::string& name) {
  return text_of(open_attribute(object, name));
}

std::int64_t read_integer_attribute(const Object& object, const std::string& name) {
  const Object attribute = open_attribute(object, name);
  std::int64_t value = 0;
  check(H5Aread(attribute.id(), H5T_NATIVE_INT64, &value), object.id(), "read");
  return value;
}

double read_real_attribute(const Object& object, const std::string& name) {
  const Object attribute = open_attribute(object, name);
  double value = 0;
  check(H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &value), object.id(), "read");
  return value;
}

std::vector<std::pair<std::string, std::string>> read_text_attributes(const Object& object) {
  std::vector<std::string> names;
  check(H5Aiterate2(
            object.id(), H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr,
            [](hid_t, const char* name, const H5A_info_t*, void* data) -> herr_t {
              static_cast<std::vector<std::string>*>(data)->emplace_back(name);
              return 0;
            },
            &names),
        object.id(), "read");
  std::vector<std::pair<std::string, std::string>> attributes;
  for (const std::string& name : names) {
    const Object attribute = open_attribute(object, name);
    const Object type(H5Aget_type(attribute.id()), H5Tclose);
    if (H5Tget_class(type.id()) == H5T_STRING) {
      attributes.emplace_back(name, text_of(attribute));
    }
  }
  return attributes;
}

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
