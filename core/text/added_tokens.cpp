// The trie of added tokens and how their matches cut text.
#include "core/text/added_tokens.hpp"

#include "core/text/unicode.hpp"

namespace millrace::text {

AddedTokenMatcher::AddedTokenMatcher() : nodes_(1) { root_children_.fill(-1); }

int32_t AddedTokenMatcher::child(int32_t node, unsigned char byte) const {
  if (node == 0) return root_children_[byte];
  for (const auto& [key, target] : nodes_[static_cast<std::size_t>(node)].children) {
    if (key == byte) return target;
  }
  return -1;
}

void AddedTokenMatcher::add(const AddedToken& token, std::string_view spelling) {
  if (spelling.empty()) return;
  int32_t node = 0;
  for (const char c : spelling) {
    const auto byte = static_cast<unsigned char>(c);
    int32_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.emplace_back();
      if (node == 0) {
        root_children_[byte] = next;
      } else {
        nodes_[static_cast<std::size_t>(node)].children.emplace_back(byte, next);
      }
    }
    node = next;
  }
  int32_t& ends_here = nodes_[static_cast<std::size_t>(node)].token;
  if (ends_here >= 0) return;
  ends_here = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

AddedTokenMatcher::Found AddedTokenMatcher::longest_match(std::string_view text,
                                                          std::size_t at) const {
  Found found{at, -1};
  int32_t node = 0;
  while (at < text.size()) {
    node = child(node, static_cast<unsigned char>(text[at++]));
    if (node < 0) break;
    if (const int32_t token = nodes_[static_cast<std::size_t>(node)].token; token >= 0) {
      found = {at, token};
    }
  }
  return found;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<Section>& out) const {
  out.clear();
  std::size_t done = 0;  // everything before is in `out`
  const auto is_word_at = [&](std::size_t at) {
    return is_word(decode_utf8(text, at).value, true);
  };
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (root_children_[static_cast<unsigned char>(text[at])] < 0) {
      ++at;
      continue;
    }
    const Found found = longest_match(text, at);
    if (found.token < 0) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = found.end;
    at = end;
    const AddedToken& token = tokens_[static_cast<std::size_t>(found.token)];
    if (token.single_word && ((begin > 0 && is_word_at(previous_utf8(text, begin))) ||
                              (end < text.size() && is_word_at(end)))) {
      continue;
    }
    // Whitespace that the token before took along stays with it; a token that itself begins with
    // whitespace may stand in there all the same, and is found a second time, as Hugging Face does.
    while (token.lstrip && begin > done) {
      const std::size_t before = previous_utf8(text, begin);
      if (!is_whitespace(decode_utf8(text, before).value)) break;
      begin = before;
    }
    while (token.rstrip && end < text.size()) {
      const CodePoint after = decode_utf8(text, end);
      if (!is_whitespace(after.value)) break;
      end += after.length;
    }
    if (begin > done) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({done, text.size(), -1});
}

}  // namespace millrace::text
