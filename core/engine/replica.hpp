// The loop that every rank of a replica runs: schedule -> execute -> collect. core/README.md has
// the step contract.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/grid.hpp"
#include "core/batch/scheduler.hpp"
#include "core/engine/collector.hpp"
#include "core/engine/executor.hpp"
#include "core/engine/request_source.hpp"
#include "core/engine/result_sink.hpp"

namespace millrace {

class StopRequest;
class Tokenizer;

// The state after a step, on the leader.
struct ReplicaProgress {
  std::int64_t step = 0;
  double seconds = 0;  // since ReplicaParameters::start
  std::int32_t running = 0;
  std::int32_t waiting = 0;  // sequences admitted that own no block
  std::int64_t blocks_in_use = 0;
  // Totals since the start.
  std::int64_t preemptions = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t requests_done = 0;
  std::int64_t requests_failed = 0;
};

struct ReplicaParameters {
  std::int32_t max_num_batched_tokens = 2048;
  std::int32_t max_num_seqs = 256;
  std::int32_t max_model_len = 2048;
  std::int32_t block_size = 16;
  // Blocks that this rank has memory for; the replica's smallest decides. Not set: on a GPU as many
  // as a worst step leaves room for.
  std::optional<std::int64_t> num_blocks;
  bool forecast = true;           // SchedulerConfig::forecast
  std::int64_t memory_bytes = 0;  // of this rank's device, that may be in use, by whomever
  DType cache_dtype = DType::f32;
  DType activation_dtype = DType::f32;
  Device device;
  std::uint64_t seed = 0;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  StepTrace* trace = nullptr;  // of this rank's steps; may be null

  // Leader only; the others leave them empty. The tokenizer may be null for models without text.
  const Tokenizer* tokenizer = nullptr;
  RequestSource* source = nullptr;
  ResultSink* sink = nullptr;
  const StopRequest* stop = nullptr;  // looked at before each step
  std::function<void(const ReplicaProgress&)>
      on_step;  // after each step and at the end; may be empty
};

// What an engine takes of a rank's memory beside the weights.
struct ReplicaMemory {
  std::int64_t activation_bytes = 0;
  std::int64_t block_bytes = 0;  // of one cache block
  std::int64_t blocks = 0;       // that there is room for on this rank
  // Measured, where the cache was sized by measurement: taken by libraries, communicators, graphs,
  // and by other programs.
  std::int64_t other_bytes = 0;
};

class Replica {
 public:
  // Collective over the replica. All references must outlive it. Throws UserError, on all its ranks
  // alike, for contradicting sizes or a device without the memory.
  Replica(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
          const Grid& grid, ReplicaParameters parameters);
  ~Replica();

  // Runs until the source is exhausted and everything is finished, or until the stop request is
  // obeyed: what has not begun is dropped at once, the rest when its grace is over. Collective over
  // the replica.
  void run();
  // Nothing was left in the source or dropped; on the leader, after run().
  bool is_complete() const { return exhausted_ && dropped() == 0; }
  std::int64_t dropped() const { return collector_->unanswered(); }

  // Blocks that the scheduler has: the smallest rank's.
  std::int32_t num_blocks() const { return scheduler_.config().num_blocks; }
  // This rank's memory.
  const ReplicaMemory& memory() const { return memory_; }

  // How run() spent its time on this rank.
  struct Times {
    double running_seconds = 0;  // all of it
    double waiting_seconds = 0;  // for inputs, results, and neighbour stages
    std::int64_t steps = 0;      // that had tokens
  };
  Times times() const;

 private:
  StepInput next_input();
  StepInput make_input();
  void take_requests(StepInput& input);
  void end_early(StepInput& input);
  void relay_input(const Bytes& bytes);
  StepResult next_result();
  void relay_result(const StepResult& result);
  void keep_result(StepResult&& result);
  void report_step();
  double seconds() const;

  const Grid& grid_;
  ReplicaParameters parameters_;
  bool feeds_tokens_;  // the device does, before the host knows them
  std::unique_ptr<Executor> executor_;
  ReplicaMemory memory_;
  Scheduler scheduler_;
  std::optional<Collector> collector_;  // leader
  std::vector<SequenceUpdate> updates_;
  std::vector<Request> taken_;
  std::vector<StepResult> results_;  // last stage: of step n at n % (lag + 1)
  std::vector<SendHandle> sends_;
  bool drained_ = false;
  bool exhausted_ = false;            // leader: the source has nothing more
  std::int64_t sequences_taken_ = 0;  // leader: from the source
  enum class Dropped : std::uint8_t { nothing, not_begun, everything };
  Dropped dropped_ = Dropped::nothing;  // leader, once the job stops
  Times times_;
};

}  // namespace millrace
