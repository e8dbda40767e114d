// The tensors of a GGUF file as a Checkpoint.
#pragma once

#include <filesystem>
#include <memory>

#include "core/weights/checkpoint.hpp"

namespace millrace {

std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path);

}  // namespace millrace
