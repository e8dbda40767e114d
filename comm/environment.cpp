#include "comm/environment.hpp"

#include <mpi.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>

#include "comm/comm_mpi.hpp"
#include "comm/meet.hpp"
#include "comm/mpi_check.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Containers often forbid one process to read another's memory; Open MPI then warns on every rank.
bool may_read_other_processes() {
  char from = 1;
  char to = 0;
  const iovec local{&to, 1};
  const iovec remote{&from, 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

void set_unless_chosen(const char* name, const char* value) { setenv(name, value, 0); }

void choose_open_mpi_settings() {
  // A waiting rank gives its core away. It costs next to nothing on an idle core, and without it
  // eight ranks on two cores need milliseconds for an exchange of microseconds.
  set_unless_chosen("OMPI_MCA_mpi_yield_when_idle", "1");
  // Started without mpirun, one rank needs no daemon of Open MPI's beside it.
  set_unless_chosen("OMPI_MCA_ess_singleton_isolated", "1");
  if (!may_read_other_processes()) {
    set_unless_chosen("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
  }
}

// Where Slurm and the MPI library share no PMIx, srun's tasks do not find each other, and Open MPI
// 5 silently makes each a job of its own: all would answer all prompts, into one output.
void refuse_to_be_alone(int world_size, bool under_mpirun) {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (world_size == 1 && !under_mpirun && tasks != nullptr && std::atoi(tasks) > 1) {
    throw UserError(
        "srun started {} tasks, but the MPI library sees one rank: use srun --mpi=pmix, or mpirun",
        tasks);
  }
}

}  // namespace

Environment::Environment() : exceptions_at_start_(std::uncaught_exceptions()) {
  const bool under_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;  // MPI_Init sets it too
  int initialized = 0;
  MPI_Initialized(&initialized);
  int provided = MPI_THREAD_SINGLE;
  if (initialized == 0) {
    choose_open_mpi_settings();
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    owns_mpi_ = true;
  } else {
    check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  }
  if (provided < MPI_THREAD_MULTIPLE) {
    throw UserError(
        "the MPI library provides thread level {} but MPI_THREAD_MULTIPLE ({}) is needed", provided,
        static_cast<int>(MPI_THREAD_MULTIPLE));
  }
  meet();
  world_ = mpi_world();
  refuse_to_be_alone(world_.size(), under_mpirun);
}

Environment::~Environment() {
  if (std::uncaught_exceptions() > exceptions_at_start_) return;
  world_ = Comm();
  if (owns_mpi_) MPI_Finalize();
}

void Environment::abort_job(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);  // MPI_Abort does not promise never to return
}

}  // namespace millrace
