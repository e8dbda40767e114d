#include "core/weights/checkpoint.hpp"

#include "core/weights/gguf_checkpoint.hpp"
#include "core/weights/safetensors.hpp"

namespace millrace {

std::unique_ptr<Checkpoint> open_checkpoint(const ModelFiles& files) {
  return files.is_gguf() ? open_gguf(files.gguf) : open_safetensors(files.folder);
}

}  // namespace millrace
