#include "core/io/partial_file.hpp"

#include <system_error>
#include <utility>

#include "core/io/posix_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

PartialFile::PartialFile(std::filesystem::path final_path, bool overwrite, int mode)
    : final_path_(std::move(final_path)),
      partial_path_(final_path_.string() + ".partial"),
      overwrite_(overwrite),
      mode_(mode) {
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
  std::error_code error;
  std::filesystem::permissions(partial_path_, static_cast<std::filesystem::perms>(mode_), error);
  if (error) {
    throw UserError("cannot give {} the mode {:o}: {}", partial_path_.string(), mode_,
                    error.message());
  }
  rename_file(partial_path_, final_path_, overwrite_);
  complete_ = true;
  sync_folder(folder_of(final_path_));
}

}  // namespace millrace
