// From `--model` to files, and from files to a model's description.
#pragma once

#include <filesystem>
#include <string>

#include "core/model/tensor_spec.hpp"

namespace millrace {

struct ModelFiles {
  std::filesystem::path folder;  // holds config.json, tokenizer.json, ...; the .gguf file's folder
  std::filesystem::path gguf;    // empty: a Hugging Face folder

  bool is_gguf() const { return !gguf.empty(); }
};

// `model` is a folder with a config.json, a .gguf file, a folder with exactly one .gguf file, or
// org/name, looked up offline in the Hugging Face cache (HF_HUB_CACHE, HF_HOME/hub,
// ~/.cache/huggingface/hub): refs/main names the snapshot. Throws UserError listing where it
// looked.
ModelFiles find_model(const std::string& model);

// Reads config.json and generation_config.json (whose eos list goes before), or the GGUF metadata.
// Throws UserError naming the file, the field and the value: unknown architecture, missing or
// impossible sizes, unsupported quantization or rope scaling.
ModelDescription describe_model(const ModelFiles& files);

}  // namespace millrace
