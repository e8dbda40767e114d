// Text of one sequence as its tokens arrive. A piece never ends inside a UTF-8 character: bytes are
// held back until the character is whole or known to be broken (then it is U+FFFD).
//
//   for each token: text += detokenizer.push(token);
//   text += detokenizer.finish();          // == tokenizer.decode(all tokens, skip_special_tokens)
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace millrace {

class Tokenizer;

class Detokenizer {
 public:
  // The tokenizer must outlive the detokenizer; moving the Tokenizer is fine.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;
  ~Detokenizer();

  // The text that is certain after this token; often empty while bytes are held back. A token
  // outside the vocabulary contributes nothing.
  std::string push(int32_t token);

  // What was held back. Nothing may be pushed afterwards.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millrace
