// The inside of a Tokenizer: plain data that a reader (tokenizer.json, GGUF) fills, in the order in
// which text passes through it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/added_tokens.hpp"
#include "core/text/bpe.hpp"
#include "core/text/decoder.hpp"
#include "core/text/normalizer.hpp"
#include "core/text/pre_tokenizer.hpp"
#include "core/text/string_table.hpp"

namespace millrace::text {

// Ids beyond this are a broken file, not a vocabulary.
inline constexpr int32_t kMaxTokenId = 1 << 21;

// A vocabulary while it is read: names by id and ids by name. Later entries win.
struct Vocabulary {
  std::vector<std::string> names;  // by id; empty where there is no token
  StringTable ids;

  // UserError: an id below 0 or above kMaxTokenId; `source` is what the error calls the file.
  void add(std::string_view name, int64_t id, std::string_view source);
};

// The buffers of one encode(), reused so that their memory and the piece cache stay warm.
struct EncodeScratch {
  std::string valid;
  std::vector<AddedTokenMatcher::Section> sections, normalized_sections;
  NormalizedText normalized;
  PreTokenizedText cut;
  BpeScratch bpe;
};

class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool);
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();
    EncodeScratch& operator*() const { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<EncodeScratch> scratch_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> free_;
};

struct TokenizerParts {
  static constexpr int32_t kText = -1;  // where the text goes in `frame`

  AddedTokenMatcher raw_added;  // looked for in the text as given
  std::vector<NormalizerStep> normalizer;
  AddedTokenMatcher normalized_added;  // looked for after the normalizer
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::optional<Bpe> model;           // always there once read
  std::vector<int32_t> frame{kText};  // special tokens around the text
  std::vector<DecoderStep> decoder;

  std::vector<std::string> names;  // by id, added tokens included; empty where there is none
  // By id, only where it differs: what the decoder is given. An added token that is looked for in
  // normalized text is decoded from its normalized form.
  std::unordered_map<int32_t, std::string> decoded_names;
  StringTable ids;
  std::vector<bool> special;          // by id
  std::vector<bool> skipped_special;  // by id: what skip_special_tokens leaves out
  std::optional<int32_t> bos, eos;

  mutable ScratchPool scratch;

  bool has(int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < names.size() &&
           !names[static_cast<std::size_t>(id)].empty();
  }
  // What decoders see of a token that has(id).
  std::string_view decoder_input(int32_t id) const;
};

// Completes `parts` from its normalizer, a vocabulary and its added tokens: the matchers, the
// names, the special flags. Called once by each reader, before `model` takes the vocabulary.
void adopt_vocabulary(TokenizerParts& parts, const Vocabulary& vocabulary,
                      const std::vector<AddedToken>& added);

}  // namespace millrace::text
