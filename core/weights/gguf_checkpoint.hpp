// The tensors of a GGUF file as a Checkpoint.
#pragma once

#include <memory>
#include <string>

#include "core/weights/checkpoint.hpp"
#include "core/weights/checkpoint_files.hpp"

namespace millrace {

std::unique_ptr<Checkpoint> open_gguf(CheckpointFiles& files, const std::string& name);

}  // namespace millrace
