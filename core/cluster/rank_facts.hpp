// What one rank knows of its program, its host and its device: the material from which differences
// between hosts are found (core/cluster/findings.hpp).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/comm.hpp"
#include "core/model/model_folder.hpp"
#include "kernels/base/device_facts.hpp"

namespace millrace {

struct RankFacts {
  std::string host;
  // Of the program.
  std::string version;
  std::string build;  // its build id; empty: it has none
  std::string mpi;    // the MPI library; nccl: the NCCL library, empty on CPUs
  std::string nccl;
  // The model's files, name and what was seen of each; nothing when no model was given.
  std::map<std::string, std::string> model;
  std::string prompts;  // what this host sees of the prompt file; empty: not looked at
  std::string output;   // and of a file that rank 0 put beside the output; empty: not looked at
  // Of the device.
  Device device;
  DeviceFacts gpu;        // nothing but a name on CPUs
  std::string driver;     // of NVIDIA's kernel driver: "580.126.09"; empty: none
  int visible_gpus = 0;   // to this process
  std::string gpu_links;  // to the GPUs of the host's other ranks: "NV18 NV18 SYS", in rank order
  // Of the host.
  std::vector<int> cores;  // that this process may run on
  int host_cores = 0;
  std::int64_t free_memory_bytes = 0;
  std::int64_t shm_bytes = 0;               // of /dev/shm
  std::int64_t shm_free_bytes = 0;          // 0 as well when there is none
  std::int64_t memlock_bytes = 0;           // limit of locked memory; -1: none
  std::vector<std::string> active_ports;    // of its networks: "mlx5_0 InfiniBand 400 Gb/sec"
  std::vector<std::string> inactive_ports;  // likewise
  bool has_peer_memory = false;             // nvidia_peermem is loaded
  std::int64_t lost_host_seconds = 0;       // of mpirun (comm/mpi_facts.hpp)
};

// Of this process, but for its model, its files and its neighbours. Takes milliseconds, or the time
// that opening a GPU takes.
RankFacts collect_facts(Device device);

// Fills in gpu_links. Collective over `node`, the ranks of this host.
void meet_neighbours(RankFacts& facts, const Comm& node);

// The files of a model, by name within its folder: their size and a checksum of their first and
// last 64 KiB, where checkpoints keep their headers and their newest weights. Throws UserError when
// a file cannot be read.
std::map<std::string, std::string> model_facts(const ModelFiles& files);
// Those of --model as this rank sees it: of the ranks of a host that see the same folder one reads
// for all. `node`: the ranks of this host. Throws on all ranks alike. Collective over `world`.
std::map<std::string, std::string> model_facts_of_host(const Comm& world, const Comm& node,
                                                       const std::string& model);

// What is below /sys and /proc at `root`: active_ports, inactive_ports and has_peer_memory.
void read_network_facts(RankFacts& facts, const std::filesystem::path& root = "/");

// Every rank's, in rank order, on rank 0; nothing elsewhere. Collective.
std::vector<RankFacts> gather_facts(const Comm& world, const RankFacts& mine);

// Hosts, each once, in rank order, with all their ranks, which need not be neighbours.
using RanksOfHost = std::pair<std::string, std::vector<const RankFacts*>>;
std::vector<RanksOfHost> by_host(std::span<const RankFacts> ranks);

// "0-3,8": a list of cores in few characters.
std::string ranges_text(const std::vector<int>& ascending);

}  // namespace millrace
