// Tokens back to text: each step of a tokenizer.json's `decoder`, nested sequences flattened.
//
// Hugging Face's decoders rewrite the list of all tokens, step by step. Here every step is a stage
// that tokens stream through, so that text can be had while a sequence still grows; decoding a
// whole sequence is the same stream run to its end, and cannot differ.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/normalizer.hpp"

namespace millrace::text {

// Characters of the byte alphabet to bytes, all bytes to one text; broken UTF-8 becomes U+FFFD.
struct ByteLevelDecoder {};
// <0xHH> to its byte. A run of them that is not UTF-8 as a whole becomes one U+FFFD per byte.
struct ByteFallbackDecoder {};
// All tokens become one.
struct Fuse {};
// Drops up to `start` copies of `content` (one character) before and `stop` after each token.
struct StripDecoder {
  std::string content;
  std::size_t start, stop;
};
// `replacement` (one character) becomes a space; in the first token it is dropped, if
// `drop_in_first`.
struct MetaspaceDecoder {
  std::string replacement;
  bool drop_in_first;
};
// `suffix` (not empty) becomes a space; in the last token it is dropped.
struct SuffixDecoder {
  std::string suffix;
};
// What a tokenizer without a decoder does: tokens joined by spaces.
struct JoinWithSpaces {};

using DecoderStep = std::variant<ByteLevelDecoder, Replace, ByteFallbackDecoder, Fuse, StripDecoder,
                                 MetaspaceDecoder, SuffixDecoder, JoinWithSpaces>;

class DecodeStage;

class DecodeStream {
 public:
  explicit DecodeStream(const std::vector<DecoderStep>& steps);
  DecodeStream(DecodeStream&&) noexcept;
  DecodeStream& operator=(DecodeStream&&) noexcept;
  ~DecodeStream();

  // `token` is the token's name, valid UTF-8. Appends to `out` what has become certain: whole
  // characters only.
  void push(std::string_view token, std::string& out);
  void finish(std::string& out);

 private:
  std::unique_ptr<DecodeStage> first_;
};

// The bytes a token stands for by itself: every step that looks at one token is applied, none that
// looks at its neighbours.
std::string decode_alone(const std::vector<DecoderStep>& steps, std::string_view token);

}  // namespace millrace::text
