// The names that `tokenizer.ggml.pre` gives to ways of cutting text into words.
#pragma once

#include <string_view>
#include <vector>

namespace millrace::text {

struct GgufPreTokenizer {
  std::vector<std::string_view> expressions = {};  // each cuts what the ones before left
  bool gpt2_words = false;                         // then GPT-2's expression cuts
  bool ignore_merges = false;                      // a word that is a token stays whole
  bool adds_bos = false;                           // where the file does not say
};

// UserError: a name that is not known.
const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name);

}  // namespace millrace::text
