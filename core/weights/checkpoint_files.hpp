// The files of a checkpoint in one folder. What opening a checkpoint reads of them (headers, an
// index) can be handed to other ranks, which then open the same checkpoint without touching a file
// before they read weights from it: four thousand ranks times thirty shards are more opens than a
// shared file system's metadata server takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/weights/checkpoint_file.hpp"

namespace millrace {

class CheckpointFiles {
 public:
  // Those that lie in the folder.
  explicit CheckpointFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}
  // Those that another rank has opened, from its heads(). Throws std::runtime_error for bytes that
  // are none.
  CheckpointFiles(std::filesystem::path folder, std::span<const std::byte> heads);

  const std::filesystem::path& folder() const { return folder_; }
  bool has(const std::string& name) const;
  // Names that end so, sorted.
  std::vector<std::string> names(const std::string& ending) const;
  // Throws UserError as CheckpointFile does.
  std::shared_ptr<CheckpointFile> open(const std::string& name);

  // Of all files that were opened: their sizes, and from the beginning on what was read of them.
  std::vector<std::byte> heads() const;

 private:
  std::filesystem::path folder_;
  std::optional<std::vector<FileHead>> known_;
  std::vector<std::shared_ptr<CheckpointFile>> opened_;
};

}  // namespace millrace
