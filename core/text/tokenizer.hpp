// Text to token ids and back, equal to what Hugging Face's `tokenizers` gives for the same
// checkpoint. A Tokenizer is immutable: any number of threads may use one at the same time.
//
// Input text is any bytes. What is not UTF-8 is read as Python's errors="replace" reads it: each
// maximal ill-formed part becomes U+FFFD before anything else happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

struct GgufTokenizerData;  // core/text/gguf_tokenizer.hpp

namespace text {
struct TokenizerParts;  // core/text/tokenizer_parts.hpp: normalizer, pre-tokenizer, model, ...
}

class Tokenizer {
 public:
  explicit Tokenizer(std::unique_ptr<const text::TokenizerParts> parts);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // `add_special_tokens` adds what the checkpoint's post-processor adds around a prompt (a BOS
  // token, mostly). Special tokens spelled out in the text are recognised either way. A rendered
  // chat template spells its own out: encode that with `false`.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  // The whole text of `ids`; ids outside the vocabulary contribute nothing. For text as it grows,
  // use Detokenizer, whose pieces concatenate to the same bytes.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // The bytes that one token stands for, seen alone: not always whole UTF-8 characters. Empty for
  // an id outside the vocabulary.
  std::string token_bytes(int32_t id) const;

  // The token's name as the vocabulary spells it ("Ġhello", "<0x0A>", "<|im_end|>").
  std::optional<std::string_view> token_name(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view name) const;
  bool is_special(int32_t id) const;

  int64_t vocab_size() const;  // largest id + 1, added tokens included
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

 private:
  friend class Detokenizer;
  std::unique_ptr<const text::TokenizerParts> parts_;
};

// Reads `tokenizer.json` (and bos/eos from tokenizer_config.json) in a model folder; a folder with
// only `vocab.json` and `merges.txt` is read as the GPT-2 kind those files always were.
// UserError: no tokenizer in the folder, a file that does not parse, a kind not supported.
Tokenizer load_tokenizer(const std::filesystem::path& folder);

// The same from the text of a tokenizer.json, and optionally of its tokenizer_config.json. `name`
// is what errors call it.
Tokenizer parse_tokenizer(std::string_view tokenizer_json, std::string_view tokenizer_config_json,
                          std::string_view name);

// The tokenizer inside a GGUF file. UserError: a `model` or `pre` not supported, arrays that do not
// fit together.
Tokenizer make_tokenizer(const GgufTokenizerData& data);

}  // namespace millrace
