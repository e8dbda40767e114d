// Lines on stderr for who runs the job. Only the rank that was told to speaks, so that a job of a
// thousand ranks says everything once.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/config/run_config.hpp"

namespace millrace {

// Until this is called nothing is logged. `speaks`: this process prints at all.
void start_log(LogLevel least, bool speaks);

void log_line(LogLevel level, const std::string& line);

// What somebody asked or was answered, at level info, by whichever rank has it: for --log-prompts
// alone.
void log_text(const std::string& line);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace millrace
