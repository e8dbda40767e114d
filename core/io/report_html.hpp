// One self-contained page about a job: no scripts, nothing loaded from elsewhere, light and dark.
#pragma once

#include <string>

#include "core/io/report.hpp"
#include "core/io/statistics.hpp"

namespace millrace {

// KV cache use, running and waiting sequences and tokens/s over time; histograms of lengths; tables
// of ranks, links, errors and settings.
std::string report_html(const Report& report, const Statistics& statistics);

}  // namespace millrace
