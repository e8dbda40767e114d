#include "comm/meet.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/backoff.hpp"
#include "comm/hosts.hpp"
#include "comm/mpi_check.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int hello_tag = 32'001;
constexpr int answer_tag = 32'002;
constexpr int neighbour_tag = 32'003;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Calls `arrived` until it is true or the time is over; answers which.
template <typename Arrived>
bool wait_for(double limit_seconds, Arrived&& arrived) {
  const Clock::time_point begin = Clock::now();
  Backoff backoff(std::chrono::milliseconds(1));
  while (!arrived()) {
    if (seconds_since(begin) > limit_seconds) return false;
    backoff.pause();
  }
  return true;
}

bool has_come(MPI_Request& request) {
  int done = 0;
  check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

void greet(int rank, const MeetingLimits& limits) {
  MPI_Request sent = MPI_REQUEST_NULL;
  MPI_Request answer = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, 0, hello_tag, MPI_COMM_WORLD, &sent), "MPI_Isend");
  check_mpi(MPI_Irecv(nullptr, 0, MPI_BYTE, 0, answer_tag, MPI_COMM_WORLD, &answer), "MPI_Irecv");
  if (wait_for(limits.seconds, [&] { return has_come(answer) && has_come(sent); })) return;
  throw std::runtime_error(
      fmt::format("rank {} on host {} has no answer from rank 0 after {} s: can MPI reach it from "
                  "there (firewall, OMPI_MCA_btl_tcp_if_include)?",
                  rank, host_name(), limits.seconds));
}

void receive_all(int size, const MeetingLimits& limits) {
  std::vector<bool> here(static_cast<std::size_t>(size));
  here[0] = true;
  int missing = size - 1;
  const auto all_here = [&] {
    int arrived = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, hello_tag, MPI_COMM_WORLD, &arrived, &status),
              "MPI_Iprobe");
    if (arrived == 0) return false;
    check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, hello_tag, MPI_COMM_WORLD,
                       MPI_STATUS_IGNORE),
              "MPI_Recv");
    MPI_Request answer = MPI_REQUEST_NULL;
    check_mpi(
        MPI_Isend(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, answer_tag, MPI_COMM_WORLD, &answer),
        "MPI_Isend");
    check_mpi(MPI_Request_free(&answer), "MPI_Request_free");
    here[static_cast<std::size_t>(status.MPI_SOURCE)] = true;
    return --missing == 0;
  };
  if (missing == 0 || wait_for(limits.seconds + limits.chiefs_seconds, all_here)) return;
  std::string ranks;
  for (int rank = 0; rank < size; ++rank) {
    if (!here[static_cast<std::size_t>(rank)]) {
      ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", rank);
    }
  }
  throw std::runtime_error(fmt::format("rank 0 on host {}: no word from rank {} of {} after {} s",
                                       host_name(), ranks, size,
                                       limits.seconds + limits.chiefs_seconds));
}

// With the ranks that collectives go to.
void greet_neighbours(int rank, int size, const MeetingLimits& limits) {
  std::vector<int> sources;
  std::vector<MPI_Request> requests;
  for (int distance = 1; distance < size; distance *= 2) {
    const int source = (rank + size - distance) % size;
    const int target = (rank + distance) % size;
    sources.push_back(source);
    check_mpi(MPI_Irecv(nullptr, 0, MPI_BYTE, source, neighbour_tag, MPI_COMM_WORLD,
                        &requests.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Irecv");
    MPI_Request sent = MPI_REQUEST_NULL;
    check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, target, neighbour_tag, MPI_COMM_WORLD, &sent),
              "MPI_Isend");
    check_mpi(MPI_Request_free(&sent), "MPI_Request_free");
  }
  const auto all_came = [&] {
    // Every request is tested, since a null one stands for what has come.
    return std::ranges::count_if(requests, [](MPI_Request& each) { return !has_come(each); }) == 0;
  };
  if (wait_for(limits.seconds, all_came)) return;
  std::string missing;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (requests[i] == MPI_REQUEST_NULL) continue;
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", sources[i]);
  }
  throw std::runtime_error(
      fmt::format("rank {} on host {} has no word from rank {} after {} s, though both reach rank "
                  "0: can MPI go between their hosts (firewall, routes)?",
                  rank, host_name(), missing, limits.seconds));
}

}  // namespace

void meet(const MeetingLimits& limits) {
  int rank = 0;
  int size = 1;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  if (rank == 0) {
    receive_all(size, limits);
  } else {
    greet(rank, limits);
  }
  greet_neighbours(rank, size, limits);
}

}  // namespace millrace
