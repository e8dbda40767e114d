// What a GGUF file says about its tokenizer: plain data that the GGUF reader fills from the
// `tokenizer.*` keys and make_tokenizer() (core/text/tokenizer.hpp) reads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace millrace {

struct GgufTokenizerData {
  std::string model;                 // tokenizer.ggml.model: "gpt2" or "llama"
  std::string pre;                   // tokenizer.ggml.pre; empty when the key is absent
  std::vector<std::string> tokens;   // tokenizer.ggml.tokens, by id
  std::vector<float> scores;         // tokenizer.ggml.scores; needed by "llama"
  std::vector<int32_t> token_types;  // tokenizer.ggml.token_type: 1 normal, 2 unknown, 3 control,
                                     // 4 user defined, 5 unused, 6 byte; may be empty
  std::vector<std::string> merges;   // tokenizer.ggml.merges ("left right"); needed by "gpt2"
  std::optional<int32_t> bos_id, eos_id, unk_id, pad_id;  // tokenizer.ggml.*_token_id
  std::optional<bool> add_bos, add_eos;                   // tokenizer.ggml.add_{bos,eos}_token
  std::optional<bool> add_space_prefix;                   // tokenizer.ggml.add_space_prefix
  std::string chat_template;  // tokenizer.chat_template; empty when absent
};

}  // namespace millrace
