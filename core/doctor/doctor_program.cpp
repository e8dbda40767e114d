#include "core/doctor/doctor_program.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "comm/agree.hpp"
#include "comm/host_mesh.hpp"
#include "comm/hosts.hpp"
#include "core/cluster/build_id.hpp"
#include "core/cluster/findings.hpp"
#include "core/cluster/grid_links.hpp"
#include "core/doctor/doctor_text.hpp"
#include "core/doctor/roll_call.hpp"
#include "core/io/crc32c.hpp"
#include "core/job/agreed_config.hpp"
#include "core/job/device_choice.hpp"
#include "core/job/job_clock.hpp"
#include "core/job/rank_model.hpp"
#include "core/plan/pick_grid.hpp"
#include "core/version.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUsage =
    "Says whether a cluster is fit for a job: looks at every rank, its host and its GPU, measures "
    "every link,\n"
    "names what differs or is slow, and says what helps. Exit code 0: healthy, 1: not.\n\n"
    "  mpirun -n RANKS millrace-doctor [--model MODEL] [-tp N] [-pp N] [-dp N] [flags]\n"
    "  srun millrace-doctor [--model MODEL] [flags]\n";

// Shared file systems show a new file to other hosts after a while.
constexpr double visible_seconds = 5;

// Only rank 0 prints, and at once: who waits should see what for.
class Printer {
 public:
  explicit Printer(bool speaks) : speaks_(speaks) {}
  void operator()(const std::string& text) const {
    if (!speaks_) return;
    fmt::print("{}", text);
    std::fflush(stdout);
  }

 private:
  bool speaks_;
};

// What this host sees of the prompt file. Throws on all ranks when rank 0's does not see it.
// Collective.
std::string prompts_fact(const Comm& world, const std::string& prompts) {
  if (prompts.empty()) return "";
  return agree(world, [&] {
    std::error_code error;
    const auto size = fs::file_size(prompts, error);
    if (error && world.rank() == 0) {
      throw UserError("--prompts: cannot read '{}' on host {}: {}", prompts, host_name(),
                      error.message());
    }
    return error ? std::string("unreadable") : fmt::format("{} bytes", size);
  });
}

// Of the program that a job would run: it lies beside this one.
std::string build_of_millrace() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const std::string beside = build_id(self.parent_path() / "millrace");
  return beside.empty() ? build_id() : beside;
}

// What this host sees of a file that rank 0 writes beside the output. Collective.
std::string output_fact(const Comm& world, const std::string& output) {
  if (output.empty()) return "";
  std::string probe;
  agree(world, [&] {
    if (world.rank() != 0) return;
    probe = fmt::format("{}.doctor-{:x}", output,
                        std::chrono::steady_clock::now().time_since_epoch().count());
    if (!(std::ofstream(probe) << "millrace-doctor\n").flush()) {
      throw UserError("--output: cannot write '{}'", probe);
    }
  });
  const auto named = as_bytes(probe);
  Bytes name(named.begin(), named.end());
  world.broadcast_bytes(name, 0);
  const fs::path path(as_text(name));
  std::error_code error;
  const auto begin = std::chrono::steady_clock::now();
  while (!fs::exists(path, error) && std::chrono::steady_clock::now() - begin <
                                         std::chrono::duration<double>(visible_seconds)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const bool is_seen = fs::exists(path, error);
  const bool is_writable = access(path.c_str(), W_OK) == 0;
  world.barrier();
  if (world.rank() == 0) fs::remove(path, error);
  return !is_seen ? "not shared" : is_writable ? "shared" : "read-only";
}

// Where the job would run, and on what grid.
struct Place {
  Device device;
  GridShape shape;
  std::string explanation;
  std::map<std::string, std::string> model;
};

bool is_same_everywhere(const Comm& world, const std::map<std::string, std::string>& model) {
  std::uint32_t sum = 0;
  for (const auto& [file, fact] : model) {
    sum = crc32c(as_bytes(file), sum);
    sum = crc32c(as_bytes(fact), sum);
  }
  return world.all_reduce_min(sum) == world.all_reduce_max(sum);
}

Place find_place(const Comm& world, const RunConfig& config) {
  const Comm node = world.split_by_host();
  Place place;
  const std::string& model = config.model.model;
  if (!model.empty()) {
    place.model = model_facts_of_host(world, node, model);
  }
  // Ranks with different models would plan different grids.
  if (model.empty() || !is_same_everywhere(world, place.model)) {
    place.device = agree(world, [&] { return choose_device(config.engine.device, node); });
    const auto on_host = static_cast<int>(world.all_reduce_min(node.size()));
    place.shape =
        pick_grid_without_model({.ranks = world.size(), .ranks_per_node = on_host}, config.grid);
    return place;
  }
  const JobPlan plan = plan_job(world, config);
  place.device = plan.device;
  place.shape = plan.grid.shape;
  place.explanation = plan.explanation;
  return place;
}

}  // namespace

std::vector<Flag> doctor_flags(DoctorConfig& config) {
  using Kind = Flag::Kind;
  std::vector<Flag> flags = flags_named(
      run_flags(config.run),
      {"model", "load-format", "dtype", "quantization", "kv-cache-dtype", "max-model-len",
       "prompts", "output", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size",
       "pipeline-partition", "require-transport", "device", "max-num-seqs",
       "max-num-batched-tokens", "block-size", "kv-cache-memory-bytes", "gpu-memory-utilization"});
  const std::string group = "Verdict";
  flags.push_back({group, "strict", "", Kind::toggle, "", "false", "Warnings count as failures.",
                   [&config](const FlagValue& value) { config.strict = value.boolean(); }});
  flags.push_back(
      {group, "check-timeout", "", Kind::value, "SECONDS", "30",
       "For each check; a rank that needs longer is named and ends the program.",
       [&config](const FlagValue& value) { config.limit_seconds = value.real(0.001, 3600); }});
  return flags;
}

int run_doctor(const Comm& world, std::span<const std::string> arguments) {
  const JobClock clock;
  DoctorConfig config;
  const std::vector<Flag> flags = doctor_flags(config);
  const auto agreed = agree_on_settings(world, flags, "millrace-doctor", kUsage, arguments);
  if (!agreed) return 0;
  apply_settings(flags, agreed->values);
  const RunConfig& run = config.run;
  const Printer print(world.rank() == 0);
  print(fmt::format("millrace-doctor {}, {} rank{}\n", version(), world.size(),
                    world.size() == 1 ? "" : "s"));
  const auto limited = [&](const char* check) {
    return RollCall(world, check, config.limit_seconds);
  };
  std::vector<Finding> findings;
  const auto add = [&findings](std::vector<Finding> more) {
    std::ranges::move(more, std::back_inserter(findings));
  };

  Place place;
  std::vector<RankFacts> ranks;
  {
    const auto call = limited("devices, model and files");
    place = find_place(world, run);
    const Comm node = world.split_by_host();
    RankFacts mine = agree(world, [&] { return collect_facts(place.device); });
    meet_neighbours(mine, node);
    mine.model = place.model;
    mine.build = build_of_millrace();
    mine.prompts = prompts_fact(world, run.input.prompts);
    mine.output = output_fact(world, run.output.output);
    ranks = gather_facts(world, mine);
    add(compare_ranks(ranks));
    add(judge_hosts(ranks));
    print("hosts\n" + hosts_text(ranks));
  }
  {
    const auto call = limited("MPI between hosts");
    const HostMesh mesh = measure_hosts(world, config.limit_seconds * 0.8);
    print(mesh_text(mesh));
    if (world.rank() == 0) add(judge_mesh(mesh));
  }
  {
    const auto call = limited("links of the grid");
    Grid grid(world, place.shape);
    grid.bind(place.device);
    const std::vector<GridLink> links = grid_links(grid, place.device);
    print(fmt::format("grid {}\n",
                      place.explanation.empty() ? to_string(place.shape) : place.explanation));
    for (const LinkRow& row : measure_grid_links(grid, place.device, links)) print(link_text(row));
    const AllReduceTimes sums = measure_all_reduce(grid.tensor(), place.device);
    if (place.shape.tensor > 1) {
      print(
          fmt::format("  all-reduce over {} tensor ranks: {:.1f} us for 8 KiB, {:.2f} GB/s bus "
                      "bandwidth for 16 MiB\n",
                      place.shape.tensor, sums.small_microseconds, sums.gigabytes_per_second));
    }
    if (world.rank() == 0) {
      add(judge_links(ranks, links));
      if (const std::string slow = too_slow(links, run.links.required); !slow.empty()) {
        findings.push_back({Severity::failure, slow, "see the warnings on links"});
      }
    }
  }
  print(verdict_text(findings, clock.seconds()));
  const bool fails = std::ranges::any_of(findings, [&](const Finding& finding) {
    return config.strict || finding.severity == Severity::failure;
  });
  return world.all_reduce_max(fails ? 1 : 0) == 0 ? 0 : 1;
}

}  // namespace millrace
