// safetensors files: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
// Format: github.com/huggingface/safetensors. The header is untrusted: lengths and offsets are
// checked against the file, names may not appear twice, tensors may not overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "core/weights/checkpoint.hpp"
#include "core/weights/checkpoint_file.hpp"
#include "core/weights/checkpoint_files.hpp"

namespace millrace {

struct SafetensorsTensor : CheckpointTensor {
  // The file's word for the elements, "BF16". `type` means something only when is_supported.
  std::string dtype;
  bool is_supported = false;
  std::int64_t offset = 0;  // of the data, from the start of the file
};

// The tensors of one file, by name. Throws UserError naming the file.
std::map<std::string, SafetensorsTensor, std::less<>> read_safetensors_header(
    const CheckpointFile& file);

// The checkpoint of a folder: model.safetensors, the shards that model.safetensors.index.json
// lists, or the only *.safetensors file. Shards must lie in the folder.
std::unique_ptr<Checkpoint> open_safetensors(CheckpointFiles& files);

}  // namespace millrace
