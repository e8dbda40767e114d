#include "core/job/weight_sharing.hpp"

#include <algorithm>

#include "comm/agree.hpp"

namespace millrace {
namespace {

// Hosts that the ranks of `comm` are on. Collective over it.
int count_hosts(const Comm& comm) {
  return static_cast<int>(comm.all_reduce_sum(comm.split_by_host().rank() == 0 ? 1 : 0));
}

LoadQuestion question_of(const Grid& grid, const Comm& replicas, const JobPlan& plan,
                         const ModelConfig& config) {
  LoadQuestion question;
  question.asked = config.load_strategy;
  question.is_made_up = config.load_format == LoadFormat::dummy;
  question.has_sharers = grid.shape().data * grid.shape().tensor > 1;
  question.file_system = agree(grid.world(), [&] {
    return file_system_of(plan.files.is_gguf() ? plan.files.gguf : plan.files.folder);
  });
  question.sharing_hosts = static_cast<int>(
      grid.world().all_reduce_max(std::max(count_hosts(replicas), count_hosts(grid.tensor()))));
  // One host with the files on a network is enough, so that all ranks choose alike.
  question.file_system.is_on_network =
      grid.world().all_reduce_max(question.file_system.is_on_network ? 1 : 0) != 0;
  return question;
}

}  // namespace

WeightSharing::WeightSharing(const Grid& grid, const JobPlan& plan, const ModelConfig& config) {
  const GridShape& shape = grid.shape();
  const GridCoordinates& at = grid.coordinates();
  if (shape.data > 1) replicas_ = grid.world().subgroup(data_ranks(at, shape));
  choice_ = choose_load_strategy(question_of(grid, replicas_, plan, config));
  if (choice_.strategy == LoadStrategy::read) return;
  replicas_.bind(plan.device);
  peers_.emplace(LoadPeers{grid.tensor(), replicas_, {}});
  for (int tensor = 0; tensor < shape.tensor; ++tensor) {
    peers_->tensor_slices.push_back(partition(
        plan.model.spec, shape, {at.data, at.pipeline, tensor}, plan.options.pipeline_partition));
  }
}

}  // namespace millrace
