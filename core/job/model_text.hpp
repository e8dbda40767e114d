// The text side of a model: its tokenizer and its chat template, from wherever the checkpoint keeps
// them.
#pragma once

#include <optional>

#include "core/config/run_config.hpp"
#include "core/model/model_folder.hpp"
#include "core/text/chat_template.hpp"
#include "core/text/tokenizer.hpp"

namespace millrace {

struct ModelText {
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat;  // nothing when the checkpoint has none and no file was given
};

// `tokenizer` (--tokenizer) is a folder, a tokenizer.json or a .gguf file; empty: the model's own.
// `chat_template` (--chat-template) is a file, or empty for the model's own. Throws UserError.
ModelText load_model_text(const ModelFiles& files, const std::string& tokenizer,
                          const std::string& chat_template);

}  // namespace millrace
