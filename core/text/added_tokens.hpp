// The tokens that a tokenizer recognises in text before anything else: `added_tokens` of a
// tokenizer.json, special or not.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::text {

struct AddedToken {
  std::string content;
  int32_t id;
  bool single_word = false;  // only where no word character adjoins
  bool lstrip = false;       // takes the whitespace before it along
  bool rstrip = false;       // takes the whitespace after it along
  bool normalized = false;   // looked for in the normalized text
  bool special = false;      // skipped when decoding without special tokens
};

// Finds a set of tokens in text: the leftmost, and of those the longest.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher();

  // `spelling`: what to look for, the content or its normalized form. An empty one, or one that
  // was added before, is ignored.
  void add(const AddedToken& token, std::string_view spelling);

  bool empty() const { return tokens_.empty(); }

  // A part of the text: a token, or text between tokens (id -1). Never empty.
  struct Section {
    std::size_t begin, end;
    int32_t id;
  };
  // The parts of `text` in order, without gaps. Two tokens overlap only where the first took
  // whitespace along that the second begins with.
  void split(std::string_view text, std::vector<Section>& out) const;

 private:
  struct Node {
    int32_t token = -1;  // index into tokens_ that ends here
    std::vector<std::pair<unsigned char, int32_t>> children;
  };
  struct Found {
    std::size_t end;
    int32_t token;
  };
  int32_t child(int32_t node, unsigned char byte) const;
  Found longest_match(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;                 // a trie; nodes_[0] is its root
  std::array<int32_t, 256> root_children_;  // -1 where no token begins with that byte
};

}  // namespace millrace::text
