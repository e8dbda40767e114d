// One flag of a program as a row of a table: its names, its help, its default and what it sets. The
// same row serves the command line, the environment, the config file, --help and the echo in the
// results.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

// The text that somebody gave a flag, and its conversions. Every conversion that fails throws a
// UserError naming the flag (and the variable or file it came from) and the value.
class FlagValue {
 public:
  FlagValue(std::string origin, std::string text)
      : origin_(std::move(origin)), text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  // A whole number in [low, high]. "4k" is 4,000 and "4K" is 4,096, as vLLM reads them.
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  std::uint64_t unsigned_integer() const;
  // A finite number in [low, high].
  double real(double low, double high) const;
  // true/false, yes/no, on/off, 1/0.
  bool boolean() const;
  // One of `words`; answers its position.
  std::size_t word(std::initializer_list<std::string_view> words) const;
  // A size in bytes: "80GiB", "512M" (binary), "80GB" (decimal), or plain bytes.
  std::int64_t bytes() const;
  // Clocks count nanoseconds in 64 bits.
  static constexpr double longest_seconds = 1e9;
  // A time in seconds, "5400", "0.5" or "HH:MM:SS"; hours may have any number of digits.
  double seconds() const;
  // "8,8,7,7": whole numbers of at least `low`, at least one of them.
  std::vector<int> integers(int low) const;
  // "a,b": the values between the commas, at least one.
  std::vector<FlagValue> parts() const;
  // Throws the UserError for this value: "--flag: 'text' is not EXPECTED".
  [[noreturn]] void reject(std::string_view expected) const;

 private:
  std::string origin_;
  std::string text_;
};

struct Flag {
  enum class Kind {
    value,     // --name VALUE
    toggle,    // --name, or --name=false
    repeated,  // --name VALUE, as often as wanted; values add up
  };

  // What another value than the one that a job was begun with means to --resume and to
  // millrace-report --merge (core/job/job_fingerprint.cpp).
  enum class Change : std::uint8_t {
    undecided,  // of programs without a journal
    free,       // no token depends on it, or only through flags that are refused
    refused,    // it decides tokens: its effective value is a part of the job's fingerprint
    files,      // it names files, whose contents are parts of the fingerprint
    range,      // --shard: compared as bytes of the prompt file
  };

  std::string group;      // heading in --help
  std::string name;       // "tensor-parallel-size"
  std::string shorthand;  // "tp" for -tp; empty for none
  Kind kind = Kind::value;
  std::string placeholder;  // "N", "FILE", "auto|cpu|cuda"
  std::string initial;  // the default, given to `set` when nobody says otherwise; empty: left unset
  std::string help;
  std::function<void(const FlagValue&)> set;
  Change change = Change::undecided;  // every flag of `millrace` has to decide
};

}  // namespace millrace
