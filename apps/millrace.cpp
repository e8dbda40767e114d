// millrace: a file of prompts through a large language model (core/job/job.hpp).
#include "comm/run_main.hpp"
#include "core/config/command_line.hpp"
#include "core/job/job.hpp"

int main(int argc, char** argv) {
  return millrace::run_main("millrace", [&](const millrace::Environment& environment) {
    return millrace::run_job(environment.world(), millrace::program_arguments(argc, argv));
  });
}
