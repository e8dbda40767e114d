#include "core/job/job_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace millrace {
namespace {

template <typename Row>
std::vector<Row> rows_of(const Bytes& bytes) {
  static_assert(std::is_trivially_copyable_v<Row>);
  std::vector<Row> rows(bytes.size() / sizeof(Row));
  std::memcpy(rows.data(), bytes.data(), rows.size() * sizeof(Row));
  return rows;
}

// What travels of a rank, beside its facts.
struct RankWire {
  KvCacheRow memory;
  std::int32_t layer_begin = 0;
  std::int32_t layer_end = 0;
};

struct OutcomeWire {
  ProgressCounters counters;
  std::int64_t preemptions = 0;
  std::int64_t peak_running = 0;
  double first_token_seconds = 0;
  double started_seconds = 0;
  double finished_seconds = 0;
};

// "cpu", "cuda:0 NVIDIA H100 80GB HBM3 0000:19:00.0"
std::string describe_device(const RankFacts& facts) {
  if (facts.device.is_cpu()) return "cpu";
  return fmt::format("{} {} {}", to_string(facts.device), facts.gpu.name, facts.gpu.pci_id);
}

}  // namespace

std::string describe_loading(const Comm& world, const LoadReport& mine) {
  const std::int64_t bytes = world.all_reduce_sum(mine.bytes_read);
  const double seconds =
      1e-6 *
      static_cast<double>(world.all_reduce_max(static_cast<std::int64_t>(1e6 * mine.seconds)));
  const double gigabytes = 1e-9 * static_cast<double>(bytes);
  return fmt::format("read {:.2f} GB on {} rank{} in {:.2f} s ({:.2f} GB/s)", gigabytes,
                     world.size(), world.size() == 1 ? "" : "s", seconds,
                     gigabytes / std::max(seconds, 1e-6));
}

void describe_ranks(const Grid& grid, const JobPlan& plan, const std::vector<RankFacts>& facts,
                    const RankModel& rank, const KvCacheRow& memory, Report& report) {
  const Comm& world = grid.world();
  report.kv_cache.block_size = plan.options.block_size;
  report.kv_cache.max_model_len = static_cast<std::int32_t>(plan.options.max_model_len);
  const RankWire wire{memory, static_cast<std::int32_t>(rank.slices.layers.begin),
                      static_cast<std::int32_t>(rank.slices.layers.end())};
  const auto wires = world.gather_bytes(std::as_bytes(std::span(&wire, 1)), 0);
  for (std::size_t i = 0; i < wires.size(); ++i) {
    const RankWire of = rows_of<RankWire>(wires[i]).front();
    const auto number = static_cast<std::int32_t>(i);
    const GridCoordinates at = coordinates_of(number, grid.shape());
    report.ranks.push_back({number, facts[i].host, describe_device(facts[i]), at.data, at.pipeline,
                            at.tensor, of.layer_begin, of.layer_end, facts[i].gpu_links});
    report.kv_cache.ranks.push_back(of.memory);
  }
}

std::vector<std::pair<std::string, std::string>> effective_settings(const RunConfig& config,
                                                                    const JobPlan& plan) {
  std::map<std::string, std::string> values;
  for (const Setting& setting : config.settings) {
    std::string& value = values[setting.flag];
    value += (value.empty() ? "" : "\n") + setting.value;  // a repeated flag has a line per value
  }
  const SamplingParams& sampling = plan.sampling;
  const PlanOptions& options = plan.options;
  const auto put = [&](const char* flag, const auto& value) {
    values[flag] = fmt::format("{}", value);
  };
  put("device", plan.device.is_cuda() ? "cuda" : "cpu");
  put("dtype", name(options.dtype));
  put("kv-cache-dtype", name(options.cache_dtype));
  put("max-model-len", options.max_model_len);
  put("max-num-seqs", options.max_num_seqs);
  put("max-num-batched-tokens", options.max_num_batched_tokens);
  put("data-parallel-size", plan.grid.shape.data);
  put("pipeline-parallel-size", plan.grid.shape.pipeline);
  put("tensor-parallel-size", plan.grid.shape.tensor);
  put("temperature", sampling.temperature);
  put("top-k", sampling.top_k);
  put("top-p", sampling.top_p);
  put("min-p", sampling.min_p);
  put("repetition-penalty", sampling.repetition_penalty);
  put("presence-penalty", sampling.presence_penalty);
  put("frequency-penalty", sampling.frequency_penalty);
  put("max-tokens", sampling.max_tokens);
  put("min-tokens", sampling.min_tokens);
  put("n", sampling.n);
  return {values.begin(), values.end()};
}

double add_outcomes(const Grid& grid, const ReplicaOutcome& mine, double loaded_seconds,
                    Report& report) {
  if (!grid.is_leader()) {
    return 0;
  }
  const OutcomeWire wire{mine.counters,        mine.preemptions,
                         mine.peak_running,    mine.first_token_seconds,
                         mine.started_seconds, mine.finished_seconds};
  const Comm& leaders = grid.leaders();
  const auto wires = leaders.gather_bytes(std::as_bytes(std::span(&wire, 1)), 0);
  const auto timelines = leaders.gather_bytes(std::as_bytes(std::span(mine.timeline)), 0);
  if (leaders.rank() != 0) {
    return 0;
  }
  ProgressCounters sum;
  double first_token = 0;
  double started = mine.started_seconds;
  double finished = mine.finished_seconds;
  std::vector<std::vector<TimelineRow>> rows;
  for (std::size_t i = 0; i < wires.size(); ++i) {
    const OutcomeWire of = rows_of<OutcomeWire>(wires[i]).front();
    sum += of.counters;
    started = std::min(started, of.started_seconds);
    finished = std::max(finished, of.finished_seconds);
    if (of.first_token_seconds > 0 && (first_token == 0 || of.first_token_seconds < first_token)) {
      first_token = of.first_token_seconds;
    }
    report.kv_cache.preemptions += of.preemptions;
    report.kv_cache.peak_running += of.peak_running;
    rows.push_back(rows_of<TimelineRow>(timelines[i]));
  }
  report.timeline = join_timelines(rows);
  report.summary = {.load_seconds = loaded_seconds,
                    .run_seconds = finished - started,
                    .prompt_tokens = sum.prompt_tokens,
                    .output_tokens = sum.output_tokens,
                    .requests = sum.requests_done,
                    .errors = sum.requests_failed};
  return first_token;
}

std::vector<std::string> summary_lines(const Report& report, double first_token_seconds) {
  const Summary& summary = report.summary;
  const double seconds = std::max(summary.run_seconds, 1e-9);
  std::vector<std::string> lines;
  lines.push_back(fmt::format(
      "{} request{} ({} failed), {} prompt tokens, {} output tokens in {:.2f} s",
      with_commas(summary.requests), summary.requests == 1 ? "" : "s", with_commas(summary.errors),
      with_commas(summary.prompt_tokens), with_commas(summary.output_tokens), summary.run_seconds));
  std::string rates = fmt::format(
      "throughput: {} output tokens/s, {} tokens/s with prompts",
      rate_text(static_cast<double>(summary.output_tokens) / seconds),
      rate_text(static_cast<double>(summary.prompt_tokens + summary.output_tokens) / seconds));
  if (first_token_seconds > 0) {
    rates += fmt::format("; first token {:.2f} s after start", first_token_seconds);
  }
  lines.push_back(std::move(rates));
  return lines;
}

}  // namespace millrace
