// The report inside a result file: /config, /summary, /topology, /kv_cache and /timeline
// (layout: core/io/README.md).
#pragma once

#include "core/io/hdf5.hpp"
#include "core/io/report.hpp"

namespace millrace {

void write_report(const hdf5::Object& file, const Report& report);
Report read_report(const hdf5::Object& file);

}  // namespace millrace
