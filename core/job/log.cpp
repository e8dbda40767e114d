#include "core/job/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace millrace {
namespace {

constexpr const char* texts_name = "texts";

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void start_log(LogLevel least, bool speaks) {
  const auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  // On a terminal the progress line stands where the next message goes.
  const std::string over_progress = ::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
  sink->set_pattern(over_progress + "%H:%M:%S %^%l%$ %v");
  auto logger = std::make_shared<spdlog::logger>("millrace", sink);
  logger->set_level(speaks ? spdlog_level(least) : spdlog::level::off);
  spdlog::set_default_logger(std::move(logger));
  auto texts = std::make_shared<spdlog::logger>(texts_name, sink);
  texts->set_level(spdlog_level(least));
  spdlog::drop(texts_name);
  spdlog::register_logger(std::move(texts));
}

void log_line(LogLevel level, const std::string& line) {
  spdlog::default_logger_raw()->log(spdlog_level(level), line);
}

void log_text(const std::string& line) { spdlog::get(texts_name)->info(line); }

}  // namespace millrace
