// Deterministic mutation of bytes, for tests that feed a parser broken input: the same seed gives
// the same inputs on every machine, so a failing run is repeated by its number.
//
//   for (int run = 0; run < fuzz::runs(2'000); ++run) {
//     fuzz::Mutator mutator(run);
//     const std::string input = mutator.mutate(valid_file);
//     ... parse(input) must return or throw UserError; sanitizers watch the rest ...
//   }
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::fuzz {

// How many inputs to try: MILLRACE_FUZZ_RUNS if set, else `default_runs`.
inline int runs(int default_runs) {
  const char* text = std::getenv("MILLRACE_FUZZ_RUNS");
  return text != nullptr ? std::max(1, std::atoi(text)) : default_runs;
}

class Mutator {
 public:
  // `dictionary`: words of the format that random bytes would seldom hit.
  explicit Mutator(uint64_t seed, std::vector<std::string> dictionary = {})
      : random_(seed * 0x9E3779B97F4A7C15u + 1), dictionary_(std::move(dictionary)) {}

  // A copy of `input` after one to eight random edits.
  std::string mutate(std::string_view input) {
    std::string bytes(input);
    const uint64_t edits = 1 + below(below(4) == 0 ? 8 : 3);
    for (uint64_t i = 0; i < edits; ++i) edit(bytes);
    return bytes;
  }

  // Uniform in [0, bound); 0 when bound is 0. Not std::uniform_int_distribution, whose results
  // differ between standard libraries.
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

 private:
  void edit(std::string& bytes) {
    const std::size_t at = below(bytes.size() + 1);
    const std::size_t rest = bytes.size() - at;
    const std::size_t length = std::min<std::size_t>(rest, 1 + below(below(8) == 0 ? 4096 : 16));
    switch (below(11)) {
      case 0:  // flip one bit
        if (rest > 0) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:  // overwrite one byte
        if (rest > 0) bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:  // repeat a part
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 4: {  // copy a part over another place
        const std::string part = bytes.substr(below(bytes.size() + 1), length);
        bytes.replace(at, std::min(rest, part.size()), part);
        break;
      }
      case 5:  // truncate, rarely
        if (below(4) == 0) bytes.resize(at);
        break;
      case 6: {  // insert random bytes
        std::string part(1 + below(8), '\0');
        for (char& byte : part) byte = static_cast<char>(below(256));
        bytes.insert(at, part);
        break;
      }
      case 7: {  // a little-endian integer near a limit, 4 or 8 bytes wide
        static constexpr std::array<uint64_t, 9> kValues = {0,
                                                            1,
                                                            0x7F,
                                                            0xFFFF,
                                                            0x7FFFFFFF,
                                                            0xFFFFFFFF,
                                                            0x7FFFFFFFFFFFFFFF,
                                                            0x8000000000000000,
                                                            0xFFFFFFFFFFFFFFFF};
        const uint64_t value = kValues[below(kValues.size())];
        const std::size_t width = std::min<std::size_t>(rest, below(2) == 0 ? 4 : 8);
        std::memcpy(bytes.data() + at, &value, width);
        break;
      }
      case 8:
        replace_number(bytes, at);
        break;
      case 9:
        if (!dictionary_.empty()) {
          const std::string& word = dictionary_[below(dictionary_.size())];
          bytes.replace(at, below(2) == 0 ? 0 : std::min(rest, word.size()), word);
        }
        break;
      default:  // swap two bytes
        if (rest > 0) std::swap(bytes[at], bytes[below(bytes.size())]);
        break;
    }
  }

  // The next decimal number at or after `at` becomes one that readers tend to mishandle.
  void replace_number(std::string& bytes, std::size_t at) {
    static constexpr std::array<std::string_view, 10> kNumbers = {
        "-1",         "0",  "1e308", "2147483648",           "4294967296",
        "0.00000001", "-0", "1e",    "18446744073709551616", "9223372036854775808"};
    const std::size_t begin = bytes.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    std::size_t end = bytes.find_first_not_of("0123456789", begin);
    if (end == std::string::npos) end = bytes.size();
    bytes.replace(begin, end - begin, kNumbers[below(kNumbers.size())]);
  }

  std::mt19937_64 random_;
  std::vector<std::string> dictionary_;
};

}  // namespace millrace::fuzz
