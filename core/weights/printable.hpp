// Names out of untrusted files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// Bytes that are not printable ASCII become '?'; beyond 80 characters the rest becomes "...".
inline std::string printable(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string out(text.substr(0, most));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() <= most ? out : out + "...";
}

}  // namespace millrace
