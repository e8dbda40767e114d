// A file under construction: it is FINAL.partial until it is complete. Destroyed before, it goes
// away, so that under the final name there is a whole file or none.
#pragma once

#include <filesystem>

namespace millrace {

class PartialFile {
 public:
  // Makes FINAL.partial empty, mode 0600 until it is complete and has `mode`; an older one is
  // replaced.
  PartialFile(std::filesystem::path final_path, bool overwrite, int mode = 0600);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  const std::filesystem::path& path() const { return partial_path_; }
  // The file was written and closed: brings it to the disk and gives it the final name. Throws
  // UserError when something has that name and `overwrite` is false.
  void complete();

 private:
  std::filesystem::path final_path_;
  std::filesystem::path partial_path_;
  bool overwrite_;
  int mode_;
  bool complete_ = false;
};

}  // namespace millrace
