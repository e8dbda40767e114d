#include "bench/throughput/workload.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <random>

#include "kernels/base/error.hpp"

namespace millrace::bench {

namespace {

constexpr std::string_view log_normal = "lognormal:";
constexpr double log_normal_cap = 2048;

// Box and Muller's, since the library's normal_distribution differs between libraries.
double normal(std::mt19937_64& generator) {
  const auto uniform = [&] { return (static_cast<double>(generator() >> 11) + 0.5) / 0x1p53; };
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

std::int32_t log_normal_length(double mean, std::mt19937_64& generator) {
  const double sigma = 1;
  const double length = std::exp(std::log(mean) - sigma * sigma / 2 + sigma * normal(generator));
  return static_cast<std::int32_t>(std::clamp(std::round(length), 1.0, log_normal_cap));
}

}  // namespace

std::int32_t Workload::longest() const {
  std::int32_t longest = 0;
  for (const Lengths& r : requests) longest = std::max(longest, r.prompt + r.output);
  return longest;
}

Workload parse_workload(const std::string& text) {
  const bool is_log_normal = text.starts_with(log_normal);
  const char* at = text.data() + (is_log_normal ? log_normal.size() : 0);
  const char* const end = text.data() + text.size();
  const auto number = [&](char separator) {
    int value = 0;
    const auto [after, error] = std::from_chars(at, end, value);
    const bool is_separated =
        separator == '\0' ? after == end : after != end && *after == separator;
    if (error != std::errc() || value < 1 || !is_separated) {
      throw UserError("workload '{}' is not PROMPT/OUTPUTxREQUESTS or {}PROMPT/OUTPUTxREQUESTS",
                      text, log_normal);
    }
    at = after + (separator == '\0' ? 0 : 1);
    return value;
  };
  const int prompt = number('/');
  const int output = number('x');
  const int requests = number('\0');
  Workload workload{.name = text, .requests = {}};
  std::mt19937_64 generator(0);
  for (int i = 0; i < requests; ++i) {
    Lengths lengths{prompt, output};
    if (is_log_normal) {
      lengths.prompt = log_normal_length(prompt, generator);
      lengths.output = log_normal_length(output, generator);
    }
    workload.requests.push_back(lengths);
  }
  return workload;
}

Workload share_of(const Workload& workload, int replica, int replicas) {
  Workload share{.name = workload.name, .requests = {}};
  for (auto i = static_cast<std::size_t>(replica); i < workload.requests.size();
       i += static_cast<std::size_t>(replicas)) {
    share.requests.push_back(workload.requests[i]);
  }
  return share;
}

MadeUpSource::MadeUpSource(const Workload& workload, std::int64_t vocab)
    : workload_(workload), vocab_(vocab) {}

bool MadeUpSource::take(std::vector<Request>& out, std::size_t limit) {
  if (next_ == workload_.requests.size()) return false;
  for (; limit > 0 && next_ < workload_.requests.size(); --limit, ++next_) {
    std::minstd_rand generator(static_cast<std::uint32_t>(next_ + 1));
    Request& request = out.emplace_back();
    request.index = static_cast<std::int64_t>(next_);
    request.key.offset = request.index;
    for (std::int32_t i = 0; i < workload_.requests[next_].prompt; ++i) {
      request.prompt_tokens.push_back(static_cast<std::int32_t>(generator() % vocab_));
    }
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = workload_.requests[next_].output;
  }
  return true;
}

}  // namespace millrace::bench
