// What NCCL says about the ways it chose. There is no call that tells; NCCL names the way of every
// channel in its log at level INFO, so the log is directed into memory of this process and read
// there. Nothing here needs NCCL itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/transport.hpp"

namespace millrace {

// The ways in a piece of NCCL's log (2.18 to 2.28), each pair of ranks once however many channels
// join them; of channels that differ, the slowest counts. Lines such as
//   n0:7:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read
//   n0:7:9 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct
//   n0:7:9 [0] NCCL INFO Channel 01/0 : 1[1] -> 2[0] [send] via NET/IB/0/GDRDMA
// and nothing else is looked at. Ranks are those of NCCL's communicator. Never throws.
std::vector<Route> routes_in_nccl_log(std::string_view log);

// The log of this process's NCCL.
class NcclLog {
 public:
  static NcclLog& instance();

  // Directs the log into memory, through NCCL_DEBUG, NCCL_DEBUG_SUBSYS and NCCL_DEBUG_FILE of this
  // process's environment. To be called before NCCL first reads them; later calls do nothing. When
  // the user wants the log himself (NCCL_DEBUG=INFO or TRACE) it goes where he said, and is read
  // there if it is a file.
  void open();

  // Bytes written so far; where the next communicator's part begins.
  std::size_t size() const;
  // What was written from byte `begin` on.
  std::string since(std::size_t begin) const;
  // Empty when the log can be read, else why it cannot.
  const std::string& obstacle() const { return obstacle_; }

 private:
  NcclLog() = default;

  bool opened_ = false;
  std::string path_;
  std::string obstacle_ = "NCCL was not started";
};

}  // namespace millrace
