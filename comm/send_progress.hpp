// MPI moves a large message only while its sender is inside MPI, so a rank that computes or waits
// for its GPU would keep the receiver waiting. While sends are under way, this thread enters MPI
// every so often on the sender's behalf; at other times it sleeps.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace millrace {

class SendProgress {
 public:
  // Of the process that uses `comm`, which must outlive this.
  explicit SendProgress(MPI_Comm comm);
  ~SendProgress();
  SendProgress(const SendProgress&) = delete;
  SendProgress& operator=(const SendProgress&) = delete;

  // A send began; the same send is done.
  void began();
  void done();

 private:
  void run();

  MPI_Comm comm_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int under_way_ = 0;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace millrace
