#include "core/cluster/rank_facts.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "comm/gpu_links.hpp"
#include "comm/hosts.hpp"
#include "comm/mpi_facts.hpp"
#include "comm/nccl_facts.hpp"
#include "core/cluster/build_id.hpp"
#include "core/job/host_resources.hpp"
#include "core/version.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) entries.push_back(entry.path());
  std::ranges::sort(entries);
  return entries;
}

// "4: ACTIVE" -> true
bool is_active(const std::string& state) { return state.find("ACTIVE") != std::string::npos; }

// Calls visit(name, member) for everything that travels.
void members(auto&& visit) {
  visit("host", &RankFacts::host);
  visit("version", &RankFacts::version);
  visit("build", &RankFacts::build);
  visit("mpi", &RankFacts::mpi);
  visit("nccl", &RankFacts::nccl);
  visit("model", &RankFacts::model);
  visit("prompts", &RankFacts::prompts);
  visit("output", &RankFacts::output);
  visit("driver", &RankFacts::driver);
  visit("visible_gpus", &RankFacts::visible_gpus);
  visit("gpu_links", &RankFacts::gpu_links);
  visit("cores", &RankFacts::cores);
  visit("host_cores", &RankFacts::host_cores);
  visit("free_memory_bytes", &RankFacts::free_memory_bytes);
  visit("shm_bytes", &RankFacts::shm_bytes);
  visit("shm_free_bytes", &RankFacts::shm_free_bytes);
  visit("memlock_bytes", &RankFacts::memlock_bytes);
  visit("active_ports", &RankFacts::active_ports);
  visit("inactive_ports", &RankFacts::inactive_ports);
  visit("has_peer_memory", &RankFacts::has_peer_memory);
  visit("lost_host_seconds", &RankFacts::lost_host_seconds);
}

void device_members(auto&& visit) {
  visit("gpu_name", &DeviceFacts::name);
  visit("gpu_uuid", &DeviceFacts::uuid);
  visit("gpu_pci_id", &DeviceFacts::pci_id);
  visit("gpu_capability", &DeviceFacts::compute_capability);
  visit("gpu_memory_bytes", &DeviceFacts::memory_bytes);
  visit("gpu_free_bytes", &DeviceFacts::free_bytes);
  visit("gpu_runtime", &DeviceFacts::runtime_version);
  visit("gpu_driver_cuda", &DeviceFacts::driver_cuda);
}

std::vector<std::uint8_t> encode(const RankFacts& facts) {
  nlohmann::json object;
  members([&](const char* name, auto member) { object[name] = facts.*member; });
  device_members([&](const char* name, auto member) { object[name] = facts.gpu.*member; });
  object["device_index"] = facts.device.is_cuda() ? facts.device.index : -1;
  return nlohmann::json::to_cbor(object);
}

RankFacts decode(const Bytes& bytes) {
  const auto object = nlohmann::json::from_cbor(as_text(bytes));
  RankFacts facts;
  members([&](const char* name, auto member) { object.at(name).get_to(facts.*member); });
  device_members([&](const char* name, auto member) { object.at(name).get_to(facts.gpu.*member); });
  const int index = object.at("device_index");
  facts.device = index < 0 ? Device::cpu() : Device::cuda(index);
  return facts;
}

}  // namespace

void read_network_facts(RankFacts& facts, const fs::path& root) {
  for (const fs::path& device : entries_of(root / "sys/class/infiniband")) {
    for (const fs::path& port : entries_of(device / "ports")) {
      const std::string name =
          fmt::format("{} {} {}", device.filename().string(), first_line(port / "link_layer"),
                      first_line(port / "rate"));
      (is_active(first_line(port / "state")) ? facts.active_ports : facts.inactive_ports)
          .push_back(name);
    }
  }
  facts.has_peer_memory =
      fs::exists(root / "sys/module/nvidia_peermem") || fs::exists(root / "sys/module/nv_peer_mem");
}

RankFacts collect_facts(Device device) {
  RankFacts facts;
  facts.host = host_name();
  facts.version = version();
  facts.build = build_id();
  facts.mpi = mpi_library();
  facts.device = device;
  facts.gpu = device_facts(device);
  facts.visible_gpus = cuda_device_count();
  if (device.is_cuda()) {
    facts.driver = gpu_driver_version();
    facts.nccl = nccl_library();
  }
  facts.cores = allowed_cores();
  facts.host_cores = static_cast<int>(std::thread::hardware_concurrency());
  facts.free_memory_bytes = available_memory_bytes();
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    facts.shm_bytes = static_cast<std::int64_t>(shm.f_blocks * shm.f_frsize);
    facts.shm_free_bytes = static_cast<std::int64_t>(shm.f_bavail * shm.f_frsize);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    facts.memlock_bytes =
        limit.rlim_cur == RLIM_INFINITY ? -1 : static_cast<std::int64_t>(limit.rlim_cur);
  }
  read_network_facts(facts);
  facts.lost_host_seconds = lost_host_seconds();
  return facts;
}

void meet_neighbours(RankFacts& facts, const Comm& node) {
  const std::string& mine = facts.gpu.pci_id;
  const std::vector<Bytes> ids = node.all_gather_bytes(as_bytes(mine));
  for (int rank = 0; rank < node.size(); ++rank) {
    const std::string other(as_text(ids[static_cast<std::size_t>(rank)]));
    if (rank == node.rank() || other.empty() || mine.empty()) continue;
    const std::string link = gpu_link(mine, other);
    facts.gpu_links +=
        fmt::format("{}{}", facts.gpu_links.empty() ? "" : " ", link.empty() ? "?" : link);
  }
}

std::vector<RankFacts> gather_facts(const Comm& world, const RankFacts& mine) {
  const std::vector<std::uint8_t> wire = encode(mine);
  std::vector<RankFacts> all;
  for (const Bytes& bytes : world.gather_bytes(std::as_bytes(std::span(wire)), 0)) {
    all.push_back(decode(bytes));
  }
  return all;
}

std::vector<RanksOfHost> by_host(std::span<const RankFacts> ranks) {
  std::vector<RanksOfHost> hosts;
  for (const RankFacts& rank : ranks) {
    auto found = std::ranges::find(hosts, rank.host, &RanksOfHost::first);
    if (found == hosts.end()) found = hosts.insert(hosts.end(), {rank.host, {}});
    found->second.push_back(&rank);
  }
  return hosts;
}

std::string ranges_text(const std::vector<int>& ascending) {
  std::string text;
  for (std::size_t i = 0; i < ascending.size();) {
    std::size_t end = i + 1;
    while (end < ascending.size() && ascending[end] == ascending[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", ascending[i]);
    if (end - i > 1) text += fmt::format("-{}", ascending[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace millrace
