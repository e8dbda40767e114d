#include "core/io/hdf5_report.hpp"

#include <algorithm>
#include <numeric>

#include "core/io/hdf5_columns.hpp"

namespace millrace {
namespace {

using hdf5::Object;

// A table of plain rows is a group of columns; `columns` names each column and its member once, for
// writing and reading.
template <typename Row, typename Member>
void write_column(const Object& group, const char* name, const std::vector<Row>& rows,
                  Member Row::*member) {
  if constexpr (std::is_same_v<Member, std::string>) {
    std::vector<std::string> values;
    for (const Row& row : rows) {
      values.push_back(row.*member);
    }
    hdf5::write_strings(group, name, values);
  } else {
    hdf5::ColumnWriter<Member> column(group, name);
    for (const Row& row : rows) {
      column.append(row.*member);
    }
    column.flush();
  }
}

template <typename Row, typename Member>
void read_column(const Object& group, const char* name, std::vector<Row>& rows,
                 Member Row::*member) {
  if constexpr (std::is_same_v<Member, std::string>) {
    const std::vector<std::string> values = hdf5::read_strings(group, name);
    rows.resize(values.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i].*member = values[i];
    }
  } else {
    hdf5::ColumnReader<Member> column(group, name);
    rows.resize(hdf5::table_rows(column.size()));
    for (Row& row : rows) {
      row.*member = column.next();
    }
  }
}

// Calls visit(name, member) for every column.
void columns(const RankRow*, auto visit) {
  visit("rank", &RankRow::rank);
  visit("host", &RankRow::host);
  visit("device", &RankRow::device);
  visit("data", &RankRow::data);
  visit("pipeline", &RankRow::pipeline);
  visit("tensor", &RankRow::tensor);
  visit("layer_begin", &RankRow::layer_begin);
  visit("layer_end", &RankRow::layer_end);
  visit("gpu_links", &RankRow::gpu_links);
}

void columns(const LinkRow*, auto visit) {
  visit("communicator", &LinkRow::communicator);
  visit("from", &LinkRow::from);
  visit("to", &LinkRow::to);
  visit("transport", &LinkRow::transport);
  visit("latency_microseconds", &LinkRow::latency_microseconds);
  visit("gigabytes_per_second", &LinkRow::gigabytes_per_second);
}

void columns(const KvCacheRow*, auto visit) {
  visit("rank", &KvCacheRow::rank);
  visit("replica", &KvCacheRow::replica);
  visit("weight_bytes", &KvCacheRow::weight_bytes);
  visit("activation_bytes", &KvCacheRow::activation_bytes);
  visit("cache_bytes", &KvCacheRow::cache_bytes);
  visit("block_bytes", &KvCacheRow::block_bytes);
  visit("blocks", &KvCacheRow::blocks);
  visit("other_bytes", &KvCacheRow::other_bytes);
}

void columns(const TimelineRow*, auto visit) {
  visit("seconds", &TimelineRow::seconds);
  visit("replica", &TimelineRow::replica);
  visit("running", &TimelineRow::running);
  visit("waiting", &TimelineRow::waiting);
  visit("prompt_tokens", &TimelineRow::prompt_tokens);
  visit("output_tokens", &TimelineRow::output_tokens);
  visit("blocks_in_use", &TimelineRow::blocks_in_use);
  visit("preemptions", &TimelineRow::preemptions);
}

void columns(const RunRow*, auto visit) {
  visit("shard", &RunRow::shard);
  visit("run", &RunRow::run);
  visit("requests", &RunRow::requests);
  visit("errors", &RunRow::errors);
  visit("prompt_tokens", &RunRow::prompt_tokens);
  visit("output_tokens", &RunRow::output_tokens);
  visit("started_seconds", &RunRow::started_seconds);
  visit("finished_seconds", &RunRow::finished_seconds);
}

template <typename Row>
void write_table(const Object& group, const std::vector<Row>& rows) {
  columns(static_cast<const Row*>(nullptr),
          [&](const char* name, auto member) { write_column(group, name, rows, member); });
}

template <typename Row>
std::vector<Row> read_table(const Object& group) {
  std::vector<Row> rows;
  columns(static_cast<const Row*>(nullptr),
          [&](const char* name, auto member) { read_column(group, name, rows, member); });
  return rows;
}

using Settings = std::vector<std::pair<std::string, std::string>>;

// Throws for what the page and the summary could not compute with.
void check_ranks(const Object& group, const std::vector<RankRow>& rows) {
  constexpr std::int32_t most = 1 << 22;  // as many as a table may have rows
  for (const RankRow& row : rows) {
    hdf5::in_range(group, "topology/ranks/data", row.data, 0, most);
    hdf5::in_range(group, "topology/ranks/pipeline", row.pipeline, 0, most);
    hdf5::in_range(group, "topology/ranks/tensor", row.tensor, 0, most);
  }
}

void check_cache(const Object& group, const KvCacheReport& cache) {
  const auto replicas = static_cast<std::int32_t>(cache.ranks.size());
  for (const KvCacheRow& row : cache.ranks) {
    hdf5::in_range(group, "kv_cache/replica", row.replica, 0, replicas - 1);
    hdf5::in_range(group, "kv_cache/blocks", row.blocks, std::int64_t{0}, std::int64_t{1} << 40);
  }
}

void check_timeline(const Object& group, const std::vector<TimelineRow>& rows) {
  for (const TimelineRow& row : rows) {
    hdf5::in_range(group, "timeline/seconds", row.seconds, 0.0, 1e12);
  }
}

// A flag that was given several times has one attribute, with a line for each value.
Settings without_repeats(const Settings& settings) {
  Settings merged;
  for (const auto& [flag, value] : settings) {
    const auto before = std::ranges::find(merged, flag, &Settings::value_type::first);
    if (before == merged.end()) {
      merged.emplace_back(flag, value);
    } else {
      before->second += '\n' + value;
    }
  }
  return merged;
}

void write_parts(const Object& job, const char* name, const std::vector<FingerprintPart>& parts) {
  const Object group = hdf5::create_group(job, name);
  for (const FingerprintPart& part : parts) {
    hdf5::write_attribute(group, part.name, part.value);
  }
}

std::vector<FingerprintPart> read_parts(const Object& job, const char* name) {
  std::vector<FingerprintPart> parts;
  for (const auto& [part, value] : hdf5::read_text_attributes(hdf5::open_group(job, name))) {
    parts.push_back({part, value});
  }
  return parts;
}

void write_job(const Object& file, const JobReport& report) {
  const Object job = hdf5::create_group(file, "job");
  write_parts(job, "fingerprint", report.fingerprint.parts);
  write_parts(job, "every_byte", report.fingerprint.every_byte);
  hdf5::write_attribute(job, "prompt_begin", report.prompt_begin);
  hdf5::write_attribute(job, "prompt_end", report.prompt_end);
  hdf5::write_attribute(job, "prompt_file_bytes", report.prompt_file_bytes);
  hdf5::write_attribute(job, "first_index", report.first_index);
  hdf5::write_attribute(job, "unanswered", report.unanswered);
  write_table(hdf5::create_group(job, "runs"), report.runs);
}

JobReport read_job(const Object& file) {
  JobReport report;
  if (!hdf5::exists(file, "job")) {
    return report;
  }
  const Object job = hdf5::open_group(file, "job");
  report.fingerprint.parts = read_parts(job, "fingerprint");
  report.fingerprint.every_byte = read_parts(job, "every_byte");
  report.prompt_begin = hdf5::read_integer_attribute(job, "prompt_begin");
  report.prompt_end = hdf5::read_integer_attribute(job, "prompt_end");
  report.prompt_file_bytes = hdf5::read_integer_attribute(job, "prompt_file_bytes");
  report.first_index = hdf5::read_integer_attribute(job, "first_index");
  report.unanswered = hdf5::read_integer_attribute(job, "unanswered");
  report.runs = read_table<RunRow>(hdf5::open_group(job, "runs"));
  return report;
}

}  // namespace

void write_report(const Object& file, const Report& report) {
  const Object config = hdf5::create_group(file, "config");
  for (const auto& [flag, value] : without_repeats(report.config)) {
    hdf5::write_attribute(config, flag, value);
  }

  const Object summary = hdf5::create_group(file, "summary");
  hdf5::write_attribute(summary, "load_seconds", report.summary.load_seconds);
  hdf5::write_attribute(summary, "run_seconds", report.summary.run_seconds);
  hdf5::write_attribute(summary, "requests", report.summary.requests);
  hdf5::write_attribute(summary, "errors", report.summary.errors);
  hdf5::write_attribute(summary, "prompt_tokens", report.summary.prompt_tokens);
  hdf5::write_attribute(summary, "output_tokens", report.summary.output_tokens);

  const Object topology = hdf5::create_group(file, "topology");
  write_table(hdf5::create_group(topology, "ranks"), report.ranks);
  write_table(hdf5::create_group(topology, "links"), report.links);
  if (!report.gpu_sums.empty()) hdf5::write_attribute(topology, "gpu_sums", report.gpu_sums);

  const Object cache = hdf5::create_group(file, "kv_cache");
  write_table(cache, report.kv_cache.ranks);
  const std::vector<std::int64_t> blocks = replica_blocks(report.kv_cache);
  const std::int64_t total = std::accumulate(blocks.begin(), blocks.end(), std::int64_t{0});
  const KvCacheReport& kv = report.kv_cache;
  hdf5::write_attribute(cache, "block_size", std::int64_t{kv.block_size});
  hdf5::write_attribute(cache, "max_model_len", std::int64_t{kv.max_model_len});
  hdf5::write_attribute(cache, "tokens", total * kv.block_size);
  hdf5::write_attribute(cache, "predicted_concurrency",
                        maximum_concurrency(total, kv.block_size, kv.max_model_len));
  hdf5::write_attribute(cache, "achieved_concurrency", kv.peak_running);
  hdf5::write_attribute(cache, "preemptions", kv.preemptions);
  hdf5::write_attribute(cache, "limiting_rank", std::int64_t{limiting_rank(kv)});

  write_table(hdf5::create_group(file, "timeline"), report.timeline);
  write_job(file, report.job);
}

Report read_report(const Object& file) {
  Report report;
  report.config = hdf5::read_text_attributes(hdf5::open_group(file, "config"));

  const Object summary = hdf5::open_group(file, "summary");
  report.summary.load_seconds = hdf5::read_real_attribute(summary, "load_seconds");
  report.summary.run_seconds = hdf5::read_real_attribute(summary, "run_seconds");
  report.summary.requests = hdf5::read_integer_attribute(summary, "requests");
  report.summary.errors = hdf5::read_integer_attribute(summary, "errors");
  report.summary.prompt_tokens = hdf5::read_integer_attribute(summary, "prompt_tokens");
  report.summary.output_tokens = hdf5::read_integer_attribute(summary, "output_tokens");

  const Object topology = hdf5::open_group(file, "topology");
  report.ranks = read_table<RankRow>(hdf5::open_group(topology, "ranks"));
  check_ranks(topology, report.ranks);
  report.links = read_table<LinkRow>(hdf5::open_group(topology, "links"));
  if (hdf5::has_attribute(topology, "gpu_sums")) {
    report.gpu_sums = hdf5::read_text_attribute(topology, "gpu_sums");
  }

  const Object cache = hdf5::open_group(file, "kv_cache");
  KvCacheReport& kv = report.kv_cache;
  kv.ranks = read_table<KvCacheRow>(cache);
  check_cache(cache, kv);
  const auto tokens = [&cache](const char* attribute) {
    constexpr std::int64_t most = 1 << 30;
    const std::int64_t value = hdf5::read_integer_attribute(cache, attribute);
    return static_cast<std::int32_t>(
        hdf5::in_range(cache, attribute, value, std::int64_t{0}, most));
  };
  kv.block_size = tokens("block_size");
  kv.max_model_len = tokens("max_model_len");
  kv.peak_running = hdf5::read_integer_attribute(cache, "achieved_concurrency");
  kv.preemptions = hdf5::read_integer_attribute(cache, "preemptions");

  report.timeline = read_table<TimelineRow>(hdf5::open_group(file, "timeline"));
  check_timeline(file, report.timeline);
  report.job = read_job(file);
  return report;
}

}  // namespace millrace
