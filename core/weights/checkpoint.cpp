#include "core/weights/checkpoint.hpp"

#include "core/weights/checkpoint_files.hpp"
#include "core/weights/gguf_checkpoint.hpp"
#include "core/weights/safetensors.hpp"

namespace millrace {
namespace {

std::filesystem::path folder_of(const ModelFiles& files) {
  return files.is_gguf() ? files.gguf.parent_path() : files.folder;
}

std::unique_ptr<Checkpoint> open_among(const ModelFiles& files, CheckpointFiles& opened) {
  return files.is_gguf() ? open_gguf(opened, files.gguf.filename().string())
                         : open_safetensors(opened);
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const ModelFiles& files) {
  CheckpointFiles opened(folder_of(files));
  return open_among(files, opened);
}

std::vector<std::byte> read_checkpoint_heads(const ModelFiles& files) {
  CheckpointFiles opened(folder_of(files));
  open_among(files, opened);
  return opened.heads();
}

std::unique_ptr<Checkpoint> open_checkpoint(const ModelFiles& files,
                                            std::span<const std::byte> heads) {
  CheckpointFiles opened(folder_of(files), heads);
  return open_among(files, opened);
}

}  // namespace millrace
