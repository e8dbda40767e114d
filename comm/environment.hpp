// The MPI library's lifetime. Started without mpirun or srun the process is one rank.
#pragma once

#include "comm/comm.hpp"

namespace millrace {

class Environment {
 public:
  // Initializes MPI for use by several threads, with Open MPI settings that suit this host where
  // the user chose none. Throws UserError when the MPI library cannot be used by several threads,
  // and for one of several tasks of srun that sees no other rank. When MPI is already initialized
  // (a test's main), its lifetime stays with whoever did it. Collective.
  Environment();
  // Finalizes MPI, except while an exception unwinds the stack: ranks that still wait for this one
  // would hold it there for ever. Every Comm must be gone by then.
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  const Comm& world() const { return world_; }

  // Ends the whole job with this exit code, whatever the other ranks are doing.
  [[noreturn]] static void abort_job(int exit_code);

 private:
  bool owns_mpi_ = false;
  int exceptions_at_start_ = 0;
  Comm world_;
};

}  // namespace millrace
