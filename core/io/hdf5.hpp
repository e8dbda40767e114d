// The little of HDF5 that result files need: here files, groups and attributes, in hdf5_columns.hpp
// columns. Every failure is a UserError naming the file. HDF5 is not thread-safe: one thread at a
// time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace millrace::hdf5 {

// An open HDF5 object (file, group, dataset, ...), closed when it goes out of scope. After a failed
// write nothing is closed any more, in the whole process: HDF5 1.10 writes its caches again when it
// closes, and crashes when that fails again. A process whose disk is full is about to end anyway.
class Object {
 public:
  using Closer = int (*)(std::int64_t);

  Object() = default;
  Object(std::int64_t id, Closer closer) : id_(id), closer_(closer) {}
  ~Object() { close(); }
  Object(Object&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Object& operator=(Object&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }

  std::int64_t id() const { return id_; }
  bool is_open() const { return id_ >= 0; }
  void close();

 private:
  std::int64_t id_ = -1;
  Closer closer_ = nullptr;
};

// Makes a file in place of an existing one (of which the mode stays), or opens one for reading.
Object create_file(const std::filesystem::path& path);
Object open_file(const std::filesystem::path& path);
// Throws when the contents did not all reach the file.
void close_file(Object& file);

Object create_group(const Object& parent, const std::string& name);
Object open_group(const Object& parent, const std::string& name);
bool exists(const Object& parent, const std::string& name);
bool has_attribute(const Object& object, const std::string& name);

void write_attribute(const Object& object, const std::string& name, const std::string& value);
void write_attribute(const Object& object, const std::string& name, std::int64_t value);
void write_attribute(const Object& object, const std::string& name, double value);
std::string read_text_attribute(const Object& object, const std::string& name);
std::int64_t read_integer_attribute(const Object& object, const std::string& name);
double read_real_attribute(const Object& object, const std::string& name);
// All attributes that are text, in the order in which they were written.
std::vector<std::pair<std::string, std::string>> read_text_attributes(const Object& object);

}  // namespace millrace::hdf5
