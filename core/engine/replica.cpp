#include "core/engine/replica.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "comm/agree.hpp"
#include "comm/progress.hpp"
#include "comm/relay.hpp"
#include "comm/stop_request.hpp"
#include "core/engine/elapsed.hpp"
#include "core/engine/step_wire.hpp"
#include "core/model/memory.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

namespace {

constexpr int input_tag = 1;
constexpr int result_tag = 2;
// How far a replica looks ahead that has all prompts to itself: sequences, and tokens of theirs.
constexpr std::int64_t window_sequences = 4096;
constexpr std::int64_t window_tokens = std::int64_t{1} << 21;
// And one that shares them with others, each of a single stage: the tokens of so many steps.
constexpr std::int64_t shared_window_steps = 4;
// An idle leader learns within so long that the job stops.
constexpr std::chrono::milliseconds longest_wait(200);

bool stop_is_requested(const ReplicaParameters& parameters) {
  return parameters.stop != nullptr && parameters.stop->is_made();
}

// Whether tokens that the host has not seen go from the last stage to the first on the device: then
// as many micro-batches as stages keep all of them busy. A last stage that had to wait until the
// first comes for its tokens would not take the activations that the first waits to be rid of.
bool feeds_tokens(const Grid& grid, Device device) {
  if (Executor::steps_ahead(device) == 0) return false;
  if (grid.shape().pipeline == 1) return true;
  return grid.replica().all_reduce_min(grid.pipeline().buffers_messages() ? 1 : 0) == 1;
}

// A step's result is back at the first stage when the pipeline has moved all other stages on by
// one; a device that is kept one step ahead of the host adds one. Where the device feeds tokens the
// host has the time of another round.
std::int32_t lag_of(const Grid& grid, Device device, bool feeds) {
  const std::int32_t stages = grid.shape().pipeline;
  return feeds ? 2 * stages - 1 : stages - 1 + Executor::steps_ahead(device);
}

// A step with prompts is not replayed, and enqueueing it takes a GPU's host some milliseconds: it
// should hold as many tokens as keep the GPU busy for about as long.
std::int32_t prompt_chunk(const ModelSpec& spec, const Grid& grid, const ReplicaParameters& p) {
  if (p.device.is_cpu()) return 0;
  constexpr std::int64_t operations = 4'000'000'000'000;
  const std::int64_t of_token = 2 * layer_matrix_elements(spec) / grid.shape().tensor;
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(operations / of_token, 1, p.max_num_batched_tokens));
}

SchedulerConfig scheduler_config(const ModelSpec& spec, const Grid& grid,
                                 const ReplicaParameters& p, bool feeds, std::int64_t blocks) {
  return {.max_num_batched_tokens = p.max_num_batched_tokens,
          .max_num_seqs = p.max_num_seqs,
          .max_model_len = p.max_model_len,
          .block_size = p.block_size,
          .num_blocks = static_cast<std::int32_t>(blocks),
          .lag = lag_of(grid, p.device, feeds),
          .lookahead = feeds ? 1 : 0,
          .forecast = p.forecast,
          .prompt_chunk = prompt_chunk(spec, grid, p),
          .shares_requests = grid.shape().data > 1,
          .eos_token_ids = spec.eos_token_ids};
}

ExecutorParameters executor_parameters(const ModelSpec& spec, const ReplicaParameters& p,
                                       bool feeds) {
  return {.limits = {.tokens = p.max_num_batched_tokens,
                     .sequences = p.max_num_seqs,
                     .blocks_per_sequence = (p.max_model_len + p.block_size - 1) / p.block_size,
                     .block_size = p.block_size},
          .seed = p.seed,
          .eos_token_ids = spec.eos_token_ids,
          .activation_dtype = p.activation_dtype,
          .device = p.device,
          .feeds_stages = feeds,
          .trace = p.trace};
}

// This rank's memory, with a cache as large as was asked for or as a worst step leaves room for.
ReplicaMemory measure_memory(const ModelSpec& spec, const RankSlices& slices,
                             const RankWeights& weights, const ReplicaParameters& p,
                             Executor& executor) {
  ReplicaMemory memory;
  memory.activation_bytes = executor.activation_bytes();
  memory.block_bytes = cache_block_bytes(spec, slices, p.block_size, p.cache_dtype);
  if (p.num_blocks) {
    memory.blocks = *p.num_blocks;
    return memory;
  }
  const std::int64_t graph_bytes =
      executor.warm_up({.block_size = p.block_size, .dtype = p.cache_dtype});
  const std::int64_t taken =
      device_memory_bytes(p.device) - free_device_memory_bytes(p.device) + graph_bytes;
  memory.other_bytes = taken - weights.report.weight_bytes - memory.activation_bytes;
  memory.blocks = std::max<std::int64_t>(
      0, (p.memory_bytes - taken - KvCache::most_rounding(slices)) / memory.block_bytes);
  return memory;
}

// Of the replica's smallest rank. All its ranks answer or throw alike.
std::int64_t agreed_blocks(const Grid& grid, const ReplicaParameters& p,
                           const ReplicaMemory& memory) {
  const std::int64_t blocks = grid.replica().all_reduce_min(memory.blocks);
  const std::int64_t of_request = (p.max_model_len + p.block_size - 1) / p.block_size;
  if (!p.num_blocks && blocks < of_request) {
    throw UserError(
        "beside weights, activations and libraries a GPU has room for {} tokens of KV cache, less "
        "than one request of --max-model-len {}; less than --max-num-batched-tokens {} or "
        "--max-num-seqs {} would leave more",
        blocks * p.block_size, p.max_model_len, p.max_num_batched_tokens, p.max_num_seqs);
  }
  return std::min<std::int64_t>(blocks, std::numeric_limits<std::int32_t>::max() / p.block_size);
}

}  // namespace

Replica::Replica(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
                 const Grid& grid, ReplicaParameters parameters)
    : grid_(grid),
      parameters_(std::move(parameters)),
      feeds_tokens_(feeds_tokens(grid, parameters_.device)),
      executor_(agree(grid.replica(),
                      [&] {
                        return std::make_unique<Executor>(
                            spec, slices, weights, grid,
                            executor_parameters(spec, parameters_, feeds_tokens_));
                      })),
      memory_(
          agree(grid.replica(),
                [&] { return measure_memory(spec, slices, weights, parameters_, *executor_); })),
      scheduler_(scheduler_config(spec, grid, parameters_, feeds_tokens_,
                                  agreed_blocks(grid, parameters_, memory_))),
      results_(static_cast<std::size_t>(scheduler_.config().lag) + 1) {
  agree(grid.replica(), [&] {
    executor_->make_cache({.blocks = scheduler_.config().num_blocks,
                           .block_size = parameters_.block_size,
                           .dtype = parameters_.cache_dtype});
  });
  if (grid.is_leader()) {
    const std::int64_t cache_tokens =
        std::int64_t{scheduler_.config().num_blocks} * scheduler_.config().block_size;
    collector_.emplace(parameters_.tokenizer, *parameters_.sink, cache_tokens,
                       [this] { return seconds(); });
  }
}

Replica::~Replica() = default;

void Replica::run() {
  const AddElapsed running(times_.running_seconds);
  while (true) {
    mark_step(scheduler_.next_step());
    updates_.clear();
    const StepInput input = next_input();
    drained_ |= input.drain;
    scheduler_.apply(input, updates_);
    if (collector_) collector_->collect(updates_, {});

    if (scheduler_.expects_result()) {
      updates_.clear();
      StepResult result = next_result();
      scheduler_.apply(result, updates_);
      if (collector_) collector_->collect(updates_, result.logprobs);
    }
    if (drained_ && scheduler_.idle()) {
      report_step();
      break;
    }

    const BatchPlan& plan = scheduler_.schedule();
    executor_->launch(plan);
    if (!plan.empty()) ++times_.steps;
    if (grid_.is_last_stage()) {
      const std::int64_t due = plan.step - Executor::steps_ahead(parameters_.device);
      if (due >= 0 && executor_->has(due)) keep_result(executor_->collect(due));
    }
    report_step();
  }
  executor_->finish();
  sends_.clear();
  mark_step(-1);
}

// --- inputs: decided by the leader, numbered by step --------------------------------------------

StepInput Replica::next_input() {
  if (grid_.is_leader()) {
    StepInput input = make_input();
    if (grid_.replica().size() > 1) relay_input(encode(input));
    return input;
  }
  Bytes bytes;
  {
    const AddElapsed waiting(times_.waiting_seconds);
    bytes = grid_.replica().receive_bytes(relay_from(grid_.replica().rank()), input_tag);
  }
  relay_input(bytes);
  return decode_step_input(bytes);
}

StepInput Replica::make_input() {
  StepInput input;
  input.step = scheduler_.next_step();
  input.endings = collector_->take_endings();
  if (stop_is_requested(parameters_)) {
    end_early(input);
  } else if (!drained_) {
    take_requests(input);
  }
  return input;
}

void Replica::take_requests(StepInput& input) {
  while (scheduler_.idle() && !parameters_.source->wait(longest_wait)) {
    if (stop_is_requested(parameters_)) return;
  }
  // A queue as long as the running set is enough to replace whatever may end in a step, and lets
  // the scheduler begin what is long before the end comes. More of it would be taken from other
  // replicas, which might be idle at the end; and so is all of it while the job has only begun,
  // when it goes to whoever reads fastest (573 and 451 of 1,024 requests). So replicas that share
  // requests hold no more than they have begun, or than the next steps can begin. A pipeline
  // spreads its prompts over many more steps.
  std::int64_t sequences = scheduler_.num_waiting();
  std::int64_t tokens = scheduler_.waiting_tokens();
  const bool is_alone = grid_.shape().data == 1;
  const std::int64_t begun = sequences_taken_ - sequences;
  const std::int64_t shared_window = grid_.shape().pipeline > 1
                                         ? window_tokens
                                         : shared_window_steps * parameters_.max_num_batched_tokens;
  const auto has_room = [&] {
    if (is_alone && sequences < window_sequences && tokens < window_tokens) return true;
    return sequences < parameters_.max_num_seqs &&
           (is_alone || sequences < begun || tokens < shared_window);
  };
  while (has_room() && !input.drain) {
    taken_.clear();
    input.drain = exhausted_ = !parameters_.source->take(taken_, 1);
    if (taken_.empty()) break;
    Request& request = taken_.front();
    if (!request.error.empty()) {
      collector_->refused(std::move(request));
      ++sequences;  // a step must not wait for a file full of errors
      continue;
    }
    sequences += request.sampling.n;
    sequences_taken_ += request.sampling.n;
    tokens += request.sampling.n * static_cast<std::int64_t>(request.prompt_tokens.size());
    auto admitted = std::make_shared<const Request>(std::move(request));
    collector_->arrived(admitted);
    input.admissions.push_back(std::move(admitted));
  }
}

// A step that takes nothing more and ends what is not worth its time.
void Replica::end_early(StepInput& input) {
  const auto drop = [&](const std::vector<std::int64_t>& numbers) {
    input.endings.insert(input.endings.end(), numbers.begin(), numbers.end());
  };
  if (dropped_ == Dropped::nothing) {
    exhausted_ = exhausted_ || !parameters_.source->take(taken_, 0);
    input.drain = true;
    drop(scheduler_.not_begun());
    dropped_ = Dropped::not_begun;
  }
  if (dropped_ == Dropped::not_begun && parameters_.stop->is_overdue()) {
    drop(scheduler_.unfinished());
    dropped_ = Dropped::everything;
  }
}

// Ranks count stage by stage, so an input reaches a stage before the activations do.
void Replica::relay_input(const Bytes& bytes) {
  std::erase_if(sends_, [](SendHandle& send) { return send.done(); });
  const Comm& replica = grid_.replica();
  for (const int rank : relay_to(replica.rank(), replica.size())) {
    sends_.push_back(replica.isend_bytes(bytes, rank, input_tag));
  }
}

// --- results: known to the last stage, sent back to the others ----------------------------------

// In the relay of results the last stage comes first, then stage 0, which needs them soonest.
void Replica::relay_result(const StepResult& result) {
  std::erase_if(sends_, [](SendHandle& send) { return send.done(); });
  const Comm& stages = grid_.results();
  const int place = grid_.is_last_stage() ? 0 : stages.rank() + 1;
  for (const int to : relay_to(place, stages.size())) {
    const bool is_leader = to == 1 && grid_.coordinates().tensor == 0;
    sends_.push_back(stages.isend_bytes(encode(result, is_leader), to - 1, result_tag));
  }
}

void Replica::keep_result(StepResult&& result) {
  relay_result(result);
  const auto place = static_cast<std::size_t>(result.step) % results_.size();
  results_[place] = std::move(result);
}

StepResult Replica::next_result() {
  const std::int64_t step = scheduler_.next_step() - 1 - scheduler_.config().lag;
  if (grid_.is_last_stage()) {
    return std::move(results_[static_cast<std::size_t>(step) % results_.size()]);
  }
  const Comm& stages = grid_.results();
  const int from = relay_from(stages.rank() + 1);
  Bytes bytes;
  {
    const AddElapsed waiting(times_.waiting_seconds);
    bytes = stages.receive_bytes(from == 0 ? stages.size() - 1 : from - 1, result_tag);
  }
  StepResult result = decode_step_result(bytes);
  relay_result(result);
  return result;
}

// --- what the outside sees ----------------------------------------------------------------------

void Replica::report_step() {
  if (!collector_ || !parameters_.on_step) return;
  parameters_.on_step({.step = scheduler_.next_step() - 1,
                       .seconds = seconds(),
                       .running = scheduler_.num_running(),
                       .waiting = scheduler_.num_waiting(),
                       .blocks_in_use = scheduler_.blocks_in_use(),
                       .preemptions = scheduler_.num_preemptions(),
                       .prompt_tokens = collector_->prompt_tokens(),
                       .output_tokens = collector_->output_tokens(),
                       .requests_done = collector_->requests_done(),
                       .requests_failed = collector_->requests_failed()});
}

Replica::Times Replica::times() const {
  Times times = times_;
  times.waiting_seconds += executor_->waited_seconds();
  return times;
}

double Replica::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - parameters_.start)
      .count();
}

}  // namespace millrace
