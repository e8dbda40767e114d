// millrace-plan: what each grid of a cluster would hold (core/plan/plan_program.hpp).
#include "apps/main_guard.hpp"
#include "core/plan/plan_program.hpp"

int main(int argc, char** argv) {
  return millrace::guarded_main(
      "millrace-plan", [&] { return millrace::run_plan(millrace::program_arguments(argc, argv)); });
}
