// millrace: a file of prompts through a large language model (core/job/job.hpp).
#include "apps/short_spins.hpp"
#include "comm/run_main.hpp"
#include "core/config/command_line.hpp"
#include "core/job/job.hpp"

int main(int argc, char** argv) {
  millrace::start_with_short_spins(argv);
  return millrace::run_main(
      "millrace", [&](const millrace::Environment& environment, millrace::Watchdog& watchdog) {
        return millrace::run_job(environment.world(), watchdog,
                                 millrace::program_arguments(argc, argv));
      });
}
