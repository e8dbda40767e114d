// millrace-doctor: is the cluster healthy? (core/doctor/doctor_program.hpp).
#include "comm/run_main.hpp"
#include "core/config/command_line.hpp"
#include "core/doctor/doctor_program.hpp"

int main(int argc, char** argv) {
  return millrace::run_main("millrace-doctor", [&](const millrace::Environment& environment) {
    return millrace::run_doctor(environment.world(), millrace::program_arguments(argc, argv));
  });
}
