// Continuous batching over a paged KV cache: which tokens of which sequences run in each step.
// Knows no device, no rank and no clock. Its state is a pure function of the StepInputs and
// StepResults it was given, so every rank of a replica runs its own and they agree
// (core/README.md).
//
// Step n, in this order:  apply(StepInput[n]);  apply(StepResult[n-1-lag]);  schedule() ->
// BatchPlan[n].
//
// Running sequences first: decode tokens, then chunks of prompts under way, then new prompts, first
// come, first served until nothing more will come (WaitingQueue), at a pace (PromptPace). When a
// running sequence finds no free block, the newest running one gives its blocks up and starts over
// later. Steps in flight are never disturbed: what they use is freed when their result has been
// applied, and tokens drawn for a sequence that has ended meanwhile are dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/batch/batch_plan.hpp"
#include "core/batch/block_pool.hpp"
#include "core/batch/cache_forecast.hpp"
#include "core/batch/prompt_pace.hpp"
#include "core/batch/step.hpp"
#include "core/batch/waiting_queue.hpp"

namespace millrace {

struct SchedulerConfig {
  std::int32_t max_num_batched_tokens = 2048;  // per step; at least max_num_seqs
  std::int32_t max_num_seqs = 256;             // sequences that own blocks at one time
  std::int32_t max_model_len = 2048;           // prompt and output of one sequence
  std::int32_t block_size = 16;
  std::int32_t num_blocks = 0;
  // Steps between a step and the first one that knows its result, less one. Running sequences are
  // spread over (lag + 1) / (lookahead + 1) micro-batches, so that every pipeline stage has one.
  std::int32_t lag = 0;
  // How many tokens of a sequence may be unresolved when it is scheduled again; at most lag. Above
  // 0 the device feeds drawn tokens back by itself (BatchPlan::token_sources), to a step that comes
  // as many steps later as there are micro-batches.
  std::int32_t lookahead = 0;
  // Admit no more than the cache will hold when it has grown (CacheForecast). Off: whatever fits
  // now, so that much is preempted; for tests of that.
  bool forecast = true;
  // Prompt tokens that make a step worth having prompts at all (PromptPace); 0: prompts run as soon
  // as there is room.
  std::int32_t prompt_chunk = 0;
  // Others take requests from the same source, so that few that wait do not mean that few are left.
  bool shares_requests = false;
  std::vector<std::int32_t> eos_token_ids;
};

// What became of a sequence when a step's input or result was applied.
struct SequenceUpdate {
  enum class Kind : std::uint8_t {
    token,    // it has a new token: StepResult::tokens[row]
    refused,  // the whole cache could not hold it
    failed,   // no token could be drawn: its logits are not numbers, or all are masked
  };
  const Sequence* sequence = nullptr;  // valid until schedule() is called
  Kind kind = Kind::token;
  std::int32_t row = -1;
  bool finished = false;  // always, when refused or failed
  FinishReason reason = FinishReason::length;
  bool stopped_by_eos = false;  // with reason stop: by EOS, not by one of stop_token_ids
};

class Scheduler {
 public:
  // Throws UserError when the numbers contradict each other.
  explicit Scheduler(SchedulerConfig config);

  const SchedulerConfig& config() const { return config_; }

  // Takes n sequences per request into the queue, and ends those that the input names and that have
  // not ended. A request that the whole pool could not hold is refused: an update with reason error
  // per sequence.
  void apply(const StepInput& input, std::vector<SequenceUpdate>& updates);

  // Results must come in order, one for every plan that was not empty.
  void apply(const StepResult& result, std::vector<SequenceUpdate>& updates);

  // The next step's plan, empty when nothing can run; valid until the next call.
  const BatchPlan& schedule();

  std::int64_t next_step() const { return next_step_; }
  // True when a result for the oldest step in flight must be applied before the next schedule().
  bool expects_result() const;
  bool idle() const {
    return waiting_.empty() && running_.empty() && leaving_.empty() && finished_ == 0;
  }
  std::int32_t num_waiting() const {
    return static_cast<std::int32_t>(waiting_.size() + leaving_.size());
  }
  std::int64_t waiting_tokens() const { return waiting_.tokens(); }
  // Those that may be scheduled, by number.
  std::span<const Sequence* const> running() const { return running_; }
  std::int32_t num_running() const { return static_cast<std::int32_t>(running_.size()); }
  std::int32_t blocks_in_use() const { return pool_.num_used(); }
  std::int64_t num_preemptions() const { return num_preemptions_; }

  // Numbers for StepInput::endings when a job stops before its end: every sequence that has not
  // ended, and those of them whose request has not a single token yet and is not running.
  std::vector<std::int64_t> unfinished() const;
  std::vector<std::int64_t> not_begun() const;

 private:
  // What a step computes, kept until its result has been applied.
  struct InFlight {
    std::vector<Sequence*> sequences;
    std::vector<Sequence*> samples;
  };
  struct Work {
    Sequence* sequence;
    std::int32_t count;  // tokens
  };

  void admit(const std::shared_ptr<const Request>& request, std::vector<SequenceUpdate>& updates);
  void end(std::int64_t number);
  bool resolve(Sequence& sequence, std::int32_t token, SequenceUpdate& update) const;
  void finish(Sequence& sequence);
  void settle(Sequence& sequence);
  std::unique_ptr<Sequence> take_memory(Sequence& sequence);
  void preempt_newest();
  std::int32_t micro_batches() const;
  std::size_t share_of(std::size_t sequences) const;
  std::int32_t lookahead_of(const Sequence& sequence) const;
  bool make_room_for(const Sequence& sequence);
  void collect_decodes();
  std::int32_t tokens_for_prompts();
  void collect_prompt_chunks();
  void collect_admissions();
  void add_work(Sequence& sequence, std::int32_t count);
  void write_plan();
  void launch(const Work& work, InFlight& step);
  InFlight& in_flight(std::int64_t step);
  std::int32_t blocks_for(std::int32_t tokens) const;

  SchedulerConfig config_;
  BlockPool pool_;
  std::vector<std::unique_ptr<Sequence>> table_;  // by slot: every sequence that owns blocks
  std::vector<std::int32_t> free_slots_;
  std::vector<Sequence*> running_;  // by number
  std::vector<Sequence*> leaving_;  // preempted, still used by a step in flight
  WaitingQueue waiting_;
  bool is_all_ = false;                             // nothing more will come
  std::int32_t finished_ = 0;                       // ended, still used by a step in flight
  std::vector<std::unique_ptr<Sequence>> retired_;  // freed by the next schedule()

  CacheForecast forecast_;
  PromptPace pace_;
  std::vector<InFlight> in_flight_;  // step n at n % (lag + 1)
  std::int64_t next_step_ = 0;
  std::int64_t next_number_ = 0;
  std::int64_t num_preemptions_ = 0;

  // The step being put together.
  std::vector<Work> work_;
  std::int32_t budget_ = 0;         // tokens left
  std::size_t sequence_limit_ = 0;  // this micro-batch's share of the sequences
  bool preempted_ = false;
  BatchPlan plan_;
};

}  // namespace millrace
