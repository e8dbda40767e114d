#include "core/io/statistics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/plan/human_bytes.hpp"
#include "core/text/unicode.hpp"

namespace millrace {
namespace {

// "the prompt has 5,120 tokens" and "... 4,097 tokens" are one reason: digits become N.
std::string without_numbers(const std::string& message) {
  std::string general;
  for (const char c : message) {
    const bool digit = c >= '0' && c <= '9';
    const bool inside = !general.empty() && general.back() == 'N';
    if (!digit && !(inside && (c == ',' || c == '.'))) {
      general += c;
    } else if (!inside) {
      general += 'N';
    }
  }
  return general;
}

// Groups errors in bounded memory: beyond so many different reasons the rest is one group.
class ErrorGroups {
 public:
  void add(const RequestRow& row) {
    const std::string general = without_numbers(row.error);
    const bool room = groups_.size() < most_groups || groups_.contains(general);
    auto [group, first] = groups_.try_emplace(room ? general : "other reasons");
    if (first) {
      group->second = {room ? row.error : "other reasons", 0, row.index};
    }
    ++group->second.count;
  }

  std::vector<ErrorGroup> sorted() const {
    std::vector<ErrorGroup> groups;
    for (const auto& [general, group] : groups_) {
      groups.push_back(group);
    }
    std::ranges::stable_sort(groups, std::greater<>(), &ErrorGroup::count);
    return groups;
  }

 private:
  static constexpr std::size_t most_groups = 1000;
  std::map<std::string, ErrorGroup> groups_;
};

template <typename... Args>
void add_line(std::string& text, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  text += '\n';
}

// What the file says goes to a terminal, and the file may be anybody's.
std::string shown(std::string_view text) { return text::printable(text); }

std::string config_value(const Report& report, std::string_view flag) {
  for (const auto& [name, value] : report.config) {
    if (name == flag) {
      return shown(value);
    }
  }
  return {};
}

void add_grid(std::string& text, const Report& report) {
  std::int32_t data = 0;
  std::int32_t pipeline = 0;
  std::int32_t tensor = 0;
  std::set<std::string> hosts;
  for (const RankRow& row : report.ranks) {
    data = std::max(data, row.data + 1);
    pipeline = std::max(pipeline, row.pipeline + 1);
    tensor = std::max(tensor, row.tensor + 1);
    hosts.insert(row.host);
  }
  if (!report.ranks.empty()) {
    add_line(text, "grid          {} rank{} on {} host{}: data {} x pipeline {} x tensor {} ({})",
             report.ranks.size(), report.ranks.size() == 1 ? "" : "s", hosts.size(),
             hosts.size() == 1 ? "" : "s", data, pipeline, tensor, shown(report.ranks[0].device));
  }
}

// Nothing of a whole prompt file that one run answered.
void add_job(std::string& text, const JobReport& job) {
  if (job.prompt_begin > 0 || job.prompt_end < job.prompt_file_bytes) {
    add_line(text, "part          bytes {} to {} of {} of the prompts",
             with_commas(job.prompt_begin), with_commas(job.prompt_end),
             with_commas(job.prompt_file_bytes));
  }
  if (job.unanswered > 0) {
    add_line(text, "unfinished    {} prompts are not answered", with_commas(job.unanswered));
  }
  if (job.runs.size() > 1) {
    std::string counts;
    constexpr std::size_t most = 8;
    for (std::size_t i = 0; i < std::min(most, job.runs.size()); ++i) {
      counts += (i > 0 ? " + " : "") + with_commas(job.runs[i].requests);
    }
    add_line(text, "runs          {}: {}{} requests", job.runs.size(), counts,
             job.runs.size() > most ? " + ..." : "");
  }
}

void add_kv_cache(std::string& text, const Report& report) {
  const KvCacheReport& kv = report.kv_cache;
  if (kv.ranks.empty()) {
    return;
  }
  std::int64_t total = 0;
  for (const std::int64_t blocks : replica_blocks(kv)) {
    total += blocks;
  }
  add_line(text, "KV cache      {} tokens in {} blocks of {}; rank {} limits it",
           with_commas(total * kv.block_size), with_commas(total), kv.block_size,
           limiting_rank(kv));
  add_line(text,
           "concurrency   {:.2f}x possible at {} tokens per request, {} sequences achieved, {} "
           "preemptions",
           maximum_concurrency(total, kv.block_size, kv.max_model_len),
           with_commas(kv.max_model_len), with_commas(kv.peak_running),
           with_commas(kv.preemptions));
  const auto weights = std::ranges::max_element(kv.ranks, {}, &KvCacheRow::weight_bytes);
  add_line(
      text, "memory        weights {} and cache {} on the largest rank",
      human_bytes(weights->weight_bytes),
      human_bytes(std::ranges::max_element(kv.ranks, {}, &KvCacheRow::cache_bytes)->cache_bytes));
}

void add_spread(std::string& text, std::string_view name, const Distribution& values, int digits,
                std::string_view unit) {
  if (values.count() == 0) {
    return;
  }
  add_line(text, "{:<13} mean {:.{}f}, p50 {:.{}f}, p90 {:.{}f}, p99 {:.{}f}, max {:.{}f} {}", name,
           values.mean(), digits, values.quantile(0.5), digits, values.quantile(0.9), digits,
           values.quantile(0.99), digits, values.maximum(), digits, unit);
}

}  // namespace

Statistics gather_statistics(const ResultReader& reader, const std::string& file) {
  Statistics statistics;
  statistics.file = file;
  statistics.millrace_version = reader.millrace_version();
  ErrorGroups groups;
  reader.for_each_request([&](const RequestRow& row) {
    ++statistics.requests;
    if (row.prompt_tokens > 0) {
      statistics.prompt_tokens.add(row.prompt_tokens);
    }
    if (!row.error.empty()) {
      ++statistics.errors;
      groups.add(row);
      return;
    }
    statistics.latency_seconds.add(std::max(0.0, row.finished_seconds - row.arrived_seconds));
    if (row.output_tokens > 0) {
      statistics.first_token_seconds.add(
          std::max(0.0, row.first_token_seconds - row.arrived_seconds));
    }
    if (row.outputs == 1 && row.output_tokens > 1) {
      statistics.seconds_per_token.add(
          std::max(0.0, row.finished_seconds - row.first_token_seconds) /
          static_cast<double>(row.output_tokens - 1));
    }
  });
  reader.for_each_output([&](const OutputRow& row) {
    ++statistics.outputs;
    statistics.output_tokens.add(row.tokens);
    ++statistics.finish_reasons.at(static_cast<std::size_t>(row.finish_reason));
  });
  statistics.error_groups = groups.sorted();
  return statistics;
}

std::string summary_text(const Report& report, const Statistics& statistics) {
  std::string text;
  const Summary& summary = report.summary;
  add_line(text, "{} (millrace {})", statistics.file, shown(statistics.millrace_version));
  if (const auto model = config_value(report, "model"); !model.empty()) {
    add_line(text, "model         {}", model);
  }
  if (const auto prompts = config_value(report, "prompts"); !prompts.empty()) {
    add_line(text, "prompts       {}", prompts);
  }
  add_grid(text, report);
  add_kv_cache(text, report);
  add_job(text, report.job);
  add_line(text, "time          {:.2f} s to load, {:.2f} s to run", summary.load_seconds,
           summary.run_seconds);
  if (summary.run_seconds > 0) {
    const auto rate = [&](std::int64_t tokens) {
      return static_cast<double>(tokens) / summary.run_seconds;
    };
    add_line(text, "throughput    {} output tokens/s, {} tokens/s with prompts, {:.2f} requests/s",
             rate_text(rate(summary.output_tokens)),
             rate_text(rate(summary.output_tokens + summary.prompt_tokens)),
             rate(summary.requests));
  }
  add_line(text, "requests      {}, {} with an error", with_commas(statistics.requests),
           with_commas(statistics.errors));
  add_line(text, "completions   {}: {} by a stop, {} by length", with_commas(statistics.outputs),
           with_commas(statistics.finish_reasons[0]), with_commas(statistics.finish_reasons[1]));
  add_spread(text, "prompt", statistics.prompt_tokens, 0, "tokens");
  add_spread(text, "output", statistics.output_tokens, 0, "tokens");
  add_spread(text, "latency", statistics.latency_seconds, 3, "s");
  add_spread(text, "first token", statistics.first_token_seconds, 3, "s");
  add_spread(text, "per token", statistics.seconds_per_token, 4, "s");
  constexpr std::size_t most = 5;
  for (std::size_t i = 0; i < std::min(most, statistics.error_groups.size()); ++i) {
    const ErrorGroup& group = statistics.error_groups[i];
    add_line(text, "error         {} line{}, first index {}: {}", with_commas(group.count),
             group.count == 1 ? "" : "s", group.first_index, shown(group.message));
  }
  if (statistics.error_groups.size() > most) {
    add_line(text, "              and {} other reasons", statistics.error_groups.size() - most);
  }
  return text;
}

}  // namespace millrace
