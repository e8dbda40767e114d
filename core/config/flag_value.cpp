// Conversions of a flag's text. std::from_chars throughout: no locale, no silent prefix parse.
#include <charconv>
#include <cmath>
#include <limits>

#include "core/config/flag.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// The whole of `text` as a Number, or false.
template <typename Number>
bool parse(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && !text.empty();
}

struct Suffix {
  std::string_view text;
  std::int64_t factor;
};

// number * factor of the suffix it ends in, or false when it is malformed or overflows.
bool parse_scaled(std::string_view text, std::initializer_list<Suffix> suffixes,
                  std::int64_t& number) {
  std::int64_t factor = 1;
  for (const Suffix& suffix : suffixes) {
    if (text.ends_with(suffix.text)) {
      factor = suffix.factor;
      text.remove_suffix(suffix.text.size());
      break;
    }
  }
  if (parse(text, number)) {
    return !__builtin_mul_overflow(number, factor, &number);
  }
  double fraction = 0;
  if (factor == 1 || !parse(text, fraction) || !std::isfinite(fraction) ||
      std::abs(fraction) * static_cast<double>(factor) >= 0x1p62) {
    return false;
  }
  number = std::llround(fraction * static_cast<double>(factor));
  return true;
}

}  // namespace

void FlagValue::reject(std::string_view expected) const {
  throw UserError("{}: '{}' is not {}", origin_, text_, expected);
}

std::int64_t FlagValue::integer(std::int64_t low, std::int64_t high) const {
  std::int64_t number = 0;
  const bool parsed =
      parse_scaled(text_, {{"k", 1000}, {"m", 1000000}, {"K", 1024}, {"M", 1048576}}, number);
  if (!parsed || number < low || number > high) {
    reject(high == std::numeric_limits<std::int64_t>::max()
               ? fmt::format("a whole number of at least {}", low)
               : fmt::format("a whole number from {} to {}", low, high));
  }
  return number;
}

std::uint64_t FlagValue::unsigned_integer() const {
  std::uint64_t number = 0;
  if (!parse(text_, number)) {
    reject("a whole number from 0 to 18446744073709551615");
  }
  return number;
}

double FlagValue::real(double low, double high) const {
  double number = 0;
  if (!parse(text_, number) || !std::isfinite(number) || number < low || number > high) {
    reject(std::isinf(high) ? fmt::format("a number of at least {}", low)
                            : fmt::format("a number from {} to {}", low, high));
  }
  return number;
}

bool FlagValue::boolean() const {
  return word({"true", "yes", "on", "1", "false", "no", "off", "0"}) < 4;
}

std::size_t FlagValue::word(std::initializer_list<std::string_view> words) const {
  std::string all;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words.begin()[i] == text_) {
      return i;
    }
    all += fmt::format("{}{}", i == 0 ? "" : ", ", words.begin()[i]);
  }
  reject("one of " + all);
}

std::int64_t FlagValue::bytes() const {
  constexpr std::int64_t kilo = 1000, kibi = 1024;
  std::int64_t number = 0;
  const bool parsed = parse_scaled(text_,
                                   {{"KiB", kibi},
                                    {"MiB", kibi * kibi},
                                    {"GiB", kibi * kibi * kibi},
                                    {"TiB", kibi * kibi * kibi * kibi},
                                    {"KB", kilo},
                                    {"MB", kilo * kilo},
                                    {"GB", kilo * kilo * kilo},
                                    {"TB", kilo * kilo * kilo * kilo},
                                    {"K", kibi},
                                    {"M", kibi * kibi},
                                    {"G", kibi * kibi * kibi},
                                    {"T", kibi * kibi * kibi * kibi},
                                    {"B", 1}},
                                   number);
  if (!parsed || number <= 0) {
    reject("a size such as 80GiB, 512MiB or a number of bytes");
  }
  return number;
}

double FlagValue::seconds() const {
  double total = 0;
  if (text_.find(':') == std::string::npos) {
    if (parse(text_, total) && total >= 0 && total <= longest_seconds) {
      return total;
    }
    reject("a time such as 5400 (seconds) or 01:30:00");
  }
  std::string_view rest = text_;
  for (int field = 0; field < 3; ++field) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    std::uint32_t number = 0;
    if ((colon == rest.size()) != (field == 2) || !parse(rest.substr(0, colon), number) ||
        (field > 0 && (colon != 2 || number > 59))) {
      reject("a time such as 5400 (seconds) or 01:30:00");
    }
    total = 60 * total + number;
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  if (total > longest_seconds) reject("a time such as 5400 (seconds) or 01:30:00");
  return total;
}

std::vector<int> FlagValue::integers(int low) const {
  std::vector<int> numbers;
  for (std::size_t begin = 0; begin <= text_.size();) {
    const std::size_t comma = std::min(text_.find(',', begin), text_.size());
    int number = 0;
    if (!parse(std::string_view(text_).substr(begin, comma - begin), number) || number < low) {
      reject(fmt::format("a list such as 8,8,7,7 of whole numbers of at least {}", low));
    }
    numbers.push_back(number);
    begin = comma + 1;
  }
  return numbers;
}

std::vector<FlagValue> FlagValue::parts() const {
  std::vector<FlagValue> values;
  for (std::size_t begin = 0; begin <= text_.size();) {
    const std::size_t comma = std::min(text_.find(',', begin), text_.size());
    values.emplace_back(origin_, text_.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return values;
}

}  // namespace millrace
