#include "core/io/report_html.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "core/io/svg_plot.hpp"
#include "core/plan/human_bytes.hpp"

namespace millrace {
namespace {

constexpr std::string_view style = R"(<style>
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --ink: #1d2227; --soft: #68727d;
  --line: #e3e6e9; --c0: #2a6fdb; --c1: #d9822b; --c2: #2d9a62; --c3: #a1499c; --c4: #c23b3b; --c5: #3a8f98; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2126; --ink: #e6e9ec;
  --soft: #98a2ad; --line: #2d343b; --c0: #6ea4f4; --c1: #eda65b; --c2: #62c795; --c3: #cd86c8;
  --c4: #ee7d7d; --c5: #6fc2cb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 10px; font-weight: 600; }
p.sub { color: var(--soft); margin: 0 0 22px; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-bottom: 16px; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
section { padding: 14px 16px; margin-bottom: 16px; overflow-x: auto; }
.plots section { margin-bottom: 0; }
.plots { margin-bottom: 16px; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--line); stroke-width: 1; }
.mark, .label { fill: var(--soft); font-size: 12.5px; font-variant-numeric: tabular-nums; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.bar { fill: var(--c0); }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); }
.s3 { stroke: var(--c3); } .s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle;
  border-radius: 2px; }
i.s0 { background: var(--c0); } i.s1 { background: var(--c1); } i.s2 { background: var(--c2); }
i.s3 { background: var(--c3); } i.s4 { background: var(--c4); } i.s5 { background: var(--c5); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 500; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
</style>
)";

template <typename... Args>
void add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

void add_tile(std::string& html, const std::string& value, std::string_view label) {
  add(html, "<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", html_text(value), label);
}

void add_section(std::string& html, std::string_view title, const std::string& body) {
  add(html, "<section><h2>{}</h2>{}</section>\n", title, body);
}

struct Column {
  std::string_view name;
  bool number = false;
};

std::string table(const std::vector<Column>& columns,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<table><tr>";
  for (const Column& column : columns) {
    add(html, "<th{}>{}</th>", column.number ? " class=\"n\"" : "", column.name);
  }
  html += "</tr>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      add(html, "<td{}>{}</td>", columns[i].number ? " class=\"n\"" : "", html_text(row[i]));
    }
    html += "</tr>\n";
  }
  return html + "</table>";
}

// The job over time: at each sample of a replica, the sum of what every replica last said.
class Combined {
 public:
  template <typename Value>
  static std::vector<PlotPoint> sums(const std::vector<TimelineRow>& rows, Value value) {
    std::map<std::int32_t, double> latest;
    std::vector<PlotPoint> points;
    double sum = 0;
    for (const TimelineRow& row : rows) {
      double& mine = latest[row.replica];
      sum += value(row) - mine;
      mine = value(row);
      points.push_back({row.seconds, sum});
    }
    return points;
  }

  // How fast a sum that only grows does, over steps of at least 1/200 of the time.
  static std::vector<PlotPoint> rates(const std::vector<PlotPoint>& totals) {
    std::vector<PlotPoint> rates;
    if (totals.empty()) {
      return rates;
    }
    const double step = totals.back().x / 200;
    PlotPoint before = totals.front();
    for (const PlotPoint& total : totals) {
      if (total.x - before.x >= step && total.x > before.x) {
        rates.push_back({(total.x + before.x) / 2, (total.y - before.y) / (total.x - before.x)});
        before = total;
      }
    }
    return rates;
  }
};

void add_plots(std::string& html, const Report& report, const Statistics& statistics) {
  html += "<div class=\"plots\">\n";
  const std::vector<TimelineRow>& rows = report.timeline;
  if (!rows.empty()) {
    double blocks = 0;
    for (const std::int64_t replica : replica_blocks(report.kv_cache)) {
      blocks += static_cast<double>(replica);
    }
    std::vector<PlotPoint> use = Combined::sums(
        rows, [](const TimelineRow& row) { return static_cast<double>(row.blocks_in_use); });
    for (PlotPoint& point : use) {
      point.y *= blocks > 0 ? 100 / blocks : 0;
    }
    add_section(html, "KV cache in use, %", line_plot({"seconds", "percent", 100}, {{"", use}}));
    add_section(
        html, "Sequences",
        line_plot(
            {"seconds", "sequences"},
            {{"running", Combined::sums(rows, [](const auto& row) { return double(row.running); })},
             {"waiting",
              Combined::sums(rows, [](const auto& row) { return double(row.waiting); })}}));
    add_section(
        html, "Tokens per second",
        line_plot(
            {"seconds", "tokens/s"},
            {{"output", Combined::rates(Combined::sums(
                            rows, [](const auto& row) { return double(row.output_tokens); }))},
             {"prompt", Combined::rates(Combined::sums(
                            rows, [](const auto& row) { return double(row.prompt_tokens); }))}}));
  }
  add_section(html, "Prompt lengths",
              histogram({"tokens", "prompts"}, statistics.prompt_tokens, true));
  add_section(html, "Output lengths",
              histogram({"tokens", "completions"}, statistics.output_tokens, true));
  add_section(html, "Seconds from reading a line to its last token",
              histogram({"seconds", "prompts"}, statistics.latency_seconds, false));
  html += "</div>\n";
}

void add_latency(std::string& html, const Statistics& statistics) {
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](std::string_view name, const Distribution& values) {
    if (values.count() > 0) {
      std::vector<std::string> cells = {std::string(name)};
      for (const double value : {values.mean(), values.quantile(0.5), values.quantile(0.9),
                                 values.quantile(0.99), values.maximum()}) {
        cells.push_back(fmt::format("{:.4g}", value));
      }
      rows.push_back(std::move(cells));
    }
  };
  row("from reading the line to its last token", statistics.latency_seconds);
  row("from reading the line to its first token", statistics.first_token_seconds);
  row("between tokens after the first", statistics.seconds_per_token);
  if (!rows.empty()) {
    add_section(
        html, "Seconds",
        table({{""}, {"mean", true}, {"p50", true}, {"p90", true}, {"p99", true}, {"max", true}},
              rows));
  }
}

void add_tables(std::string& html, const Report& report, const Statistics& statistics) {
  std::vector<std::vector<std::string>> rows;
  for (const ErrorGroup& group : statistics.error_groups) {
    rows.push_back({with_commas(group.count), with_commas(group.first_index), group.message});
  }
  if (!rows.empty()) {
    add_section(html, "Lines with an error",
                table({{"lines", true}, {"first index", true}, {"error of the first"}}, rows));
  }
  rows.clear();
  for (std::size_t i = 0; i < report.ranks.size(); ++i) {
    const RankRow& rank = report.ranks[i];
    std::vector<std::string> row = {
        fmt::format("{}", rank.rank), rank.host, rank.device,
        fmt::format("{} / {} / {}", rank.data, rank.pipeline, rank.tensor),
        fmt::format("{} to {}", rank.layer_begin, rank.layer_end - 1)};
    const auto memory = std::ranges::find(report.kv_cache.ranks, rank.rank, &KvCacheRow::rank);
    if (memory != report.kv_cache.ranks.end()) {
      row.push_back(human_bytes(memory->weight_bytes));
      row.push_back(human_bytes(memory->activation_bytes));
      row.push_back(human_bytes(memory->cache_bytes));
      row.push_back(with_commas(memory->blocks));
    }
    rows.push_back(std::move(row));
  }
  if (!rows.empty()) {
    add_section(html, "Ranks",
                table({{"rank", true},
                       {"host"},
                       {"device"},
                       {"data / stage / tensor"},
                       {"layers"},
                       {"weights", true},
                       {"activations", true},
                       {"cache", true},
                       {"blocks", true}},
                      rows));
  }
  rows.clear();
  for (const LinkRow& link : report.links) {
    rows.push_back({link.communicator, fmt::format("{}", link.from), fmt::format("{}", link.to),
                    link.transport, fmt::format("{:.1f}", link.latency_microseconds),
                    fmt::format("{:.2f}", link.gigabytes_per_second)});
  }
  if (!rows.empty()) {
    add_section(html, "Links",
                table({{"communicator"},
                       {"from", true},
                       {"to", true},
                       {"transport"},
                       {"latency (us)", true},
                       {"GB/s", true}},
                      rows));
  }
  rows.clear();
  for (const auto& [flag, value] : report.config) {
    rows.push_back({"--" + flag, value});
  }
  if (!rows.empty()) {
    add_section(html, "Settings", table({{"flag"}, {"value"}}, rows));
  }
}

}  // namespace

std::string report_html(const Report& report, const Statistics& statistics) {
  const Summary& summary = report.summary;
  std::string html = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n";
  add(html,
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>{}</title>\n",
      html_text(statistics.file));
  html += style;
  add(html, "</head><body><main>\n<h1>{}</h1>\n<p class=\"sub\">millrace {}</p>\n",
      html_text(statistics.file), html_text(statistics.millrace_version));

  html += "<div class=\"tiles\">\n";
  const double seconds = summary.run_seconds;
  add_tile(html, with_commas(statistics.requests),
           statistics.errors == 0
               ? "prompts"
               : fmt::format("prompts, {} with an error", with_commas(statistics.errors)));
  if (seconds > 0) {
    const auto rate = [&](std::int64_t tokens) {
      return rate_text(static_cast<double>(tokens) / seconds);
    };
    add_tile(html, rate(summary.output_tokens), "output tokens/s");
    add_tile(html, rate(summary.output_tokens + summary.prompt_tokens), "tokens/s with prompts");
  }
  add_tile(html, fmt::format("{:.2f} s", seconds), "to run");
  add_tile(html, fmt::format("{:.2f} s", summary.load_seconds), "to load");
  if (!report.kv_cache.ranks.empty()) {
    std::int64_t blocks = 0;
    for (const std::int64_t replica : replica_blocks(report.kv_cache)) {
      blocks += replica;
    }
    add_tile(html, with_commas(blocks * report.kv_cache.block_size), "tokens of KV cache");
    const KvCacheReport& kv = report.kv_cache;
    add_tile(html,
             fmt::format("{:.2f}x", maximum_concurrency(blocks, kv.block_size, kv.max_model_len)),
             fmt::format("concurrency at {} tokens", with_commas(kv.max_model_len)));
    add_tile(html, with_commas(kv.peak_running), "sequences ran at once");
    add_tile(html, with_commas(kv.preemptions), "preemptions");
  }
  html += "</div>\n";

  add_plots(html, report, statistics);
  add_latency(html, statistics);
  add_tables(html, report, statistics);
  return html + "</main></body></html>\n";
}

}  // namespace millrace
