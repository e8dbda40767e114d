// The tokenizer keys of a GGUF file as the text room wants them.
#pragma once

#include "core/text/gguf_tokenizer.hpp"
#include "core/weights/gguf.hpp"

namespace millrace {

// Throws UserError when tokenizer.ggml.model or tokenizer.ggml.tokens is missing, or a key has
// another type than it should.
GgufTokenizerData read_gguf_tokenizer(const GgufHeader& header);

}  // namespace millrace
