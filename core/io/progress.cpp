#include "core/io/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/io/report.hpp"

namespace millrace {
namespace {

constexpr double redraw_seconds = 0.2;

// Lines of the whole file: counted when it has been read, else in proportion to what has been.
std::int64_t expected_lines(const ProgressState& state) {
  const std::int64_t read = state.now.bytes_read;
  if (read <= 0 || read >= state.prompt_bytes) {
    return state.now.lines_read;
  }
  const double share = static_cast<double>(read) / static_cast<double>(state.prompt_bytes);
  return static_cast<std::int64_t>(std::llround(static_cast<double>(state.now.lines_read) / share));
}

// "0:04:10".
std::string clock(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string rate(double per_second) {
  return per_second < 10 ? fmt::format("{:.1f}", per_second)
                         : with_commas(static_cast<std::int64_t>(std::llround(per_second)));
}

int terminal_columns(std::FILE* stream) {
  winsize size{};
  const bool known = ::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

ProgressCounters& ProgressCounters::operator+=(const ProgressCounters& other) {
  requests_done += other.requests_done;
  requests_failed += other.requests_failed;
  lines_read += other.lines_read;
  bytes_read += other.bytes_read;
  prompt_tokens += other.prompt_tokens;
  output_tokens += other.output_tokens;
  running += other.running;
  waiting += other.waiting;
  blocks_in_use += other.blocks_in_use;
  blocks += other.blocks;
  return *this;
}

std::string progress_line(const ProgressState& state) {
  const ProgressCounters& now = state.now;
  const bool whole_file_read = now.bytes_read >= state.prompt_bytes;
  const std::int64_t lines = expected_lines(state);
  std::string line = with_commas(now.requests_done);
  if (lines > 0 || whole_file_read) {
    line += fmt::format("/{}{}", whole_file_read ? "" : "~", with_commas(lines));
  }
  line += " prompts";
  if (lines > 0) {
    line += fmt::format(" ({}%)", std::min<std::int64_t>(100, now.requests_done * 100 / lines));
  }
  if (now.requests_failed > 0) {
    line += fmt::format(", {} with an error", with_commas(now.requests_failed));
  }
  const double interval = state.seconds - state.seconds_before;
  if (interval > 0) {
    const auto tokens = static_cast<double>(now.output_tokens - state.before.output_tokens);
    line += fmt::format(" | {} tok/s", rate(tokens / interval));
  }
  line +=
      fmt::format(" | {} running, {} waiting", with_commas(now.running), with_commas(now.waiting));
  if (now.blocks > 0) {
    line += fmt::format(" | KV {}%", now.blocks_in_use * 100 / now.blocks);
  }
  // What is left, at the speed since the start: the last seconds alone jump too much.
  if (now.requests_done > 0 && lines > now.requests_done && state.seconds > 0) {
    const double each = state.seconds / static_cast<double>(now.requests_done);
    line += " | ETA " + clock(each * static_cast<double>(lines - now.requests_done));
  }
  return line;
}

ProgressDisplay::ProgressDisplay(std::FILE* stream, std::int64_t prompt_bytes, double log_seconds)
    : stream_(stream),
      terminal_(::isatty(::fileno(stream)) == 1),
      interval_seconds_(terminal_ ? redraw_seconds : log_seconds) {
  state_.prompt_bytes = prompt_bytes;
}

void ProgressDisplay::update(const ProgressCounters& counters, double seconds) {
  if (interval_seconds_ <= 0 || seconds - state_.seconds_before < interval_seconds_) {
    return;
  }
  state_.now = counters;
  print(seconds);
}

void ProgressDisplay::finish(const ProgressCounters& counters, double seconds) {
  if (interval_seconds_ <= 0) {
    return;
  }
  // The closing line speaks of the whole run.
  state_.before = {};
  state_.seconds_before = 0;
  state_.now = counters;
  print(seconds);
  if (terminal_) {
    std::fputc('\n', stream_);
    std::fflush(stream_);
  }
}

void ProgressDisplay::print(double seconds) {
  state_.seconds = seconds;
  std::string line = progress_line(state_);
  if (terminal_) {
    // One line, also in a narrow window; what the line before had more is cleared.
    line.resize(std::min(line.size(), static_cast<std::size_t>(terminal_columns(stream_) - 1)));
    std::fprintf(stream_, "\r%s\033[K", line.c_str());
  } else {
    std::fprintf(stream_, "%s\n", line.c_str());
  }
  std::fflush(stream_);
  state_.before = state_.now;
  state_.seconds_before = seconds;
}

}  // namespace millrace
