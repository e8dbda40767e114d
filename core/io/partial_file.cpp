#include "core/io/partial_file.hpp"

#include <system_error>
#include <utility>

#include "core/io/posix_file.hpp"

namespace millrace {

PartialFile::PartialFile(std::filesystem::path final_path, bool overwrite)
    : final_path_(std::move(final_path)),
      partial_path_(final_path_.string() + ".partial"),
      overwrite_(overwrite) {
  PosixFile::create(partial_path_).close();
}

PartialFile::~PartialFile() {
  if (!complete_) {
    std::error_code ignored;
    std::filesystem::remove(partial_path_, ignored);
  }
}

void PartialFile::complete() {
  PosixFile::open(partial_path_).sync();
  rename_file(partial_path_, final_path_, overwrite_);
  complete_ = true;
  sync_folder(folder_of(final_path_));
}

}  // namespace millrace
