// MPI as millrace uses it, and nothing else: what test_sockets.py compares a job's sockets with.
#include <vector>

#include "comm/comm.hpp"
#include "comm/environment.hpp"

int main() {
  const millrace::Environment environment;
  const millrace::Comm comm = environment.world().duplicate();
  std::vector<std::byte> message(1 << 20);
  const int next = (comm.rank() + 1) % comm.size();
  if (comm.size() > 1) {
    auto sent = comm.isend_bytes(message, next, 1);
    comm.receive_bytes((comm.rank() + comm.size() - 1) % comm.size(), 1);
    sent.wait();
  }
  comm.barrier();
}
