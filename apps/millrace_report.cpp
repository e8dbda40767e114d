// millrace-report: what a result file says (core/io/report_program.hpp).
#include "apps/main_guard.hpp"
#include "core/config/command_line.hpp"
#include "core/io/report_program.hpp"

int main(int argc, char** argv) {
  return millrace::guarded_main("millrace-report", [&] {
    return millrace::run_report(millrace::program_arguments(argc, argv));
  });
}
