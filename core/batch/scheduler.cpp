#include "core/batch/scheduler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/base/error.hpp"

namespace millrace {

namespace {

template <typename T>
void require(bool holds, const char* name, T value, const std::string& what) {
  if (!holds) throw UserError("{} is {}, but must be {}", name, value, what);
}

const SchedulerConfig& checked(const SchedulerConfig& c) {
  require(c.max_num_seqs >= 1, "max_num_seqs", c.max_num_seqs, "at least 1");
  require(c.max_num_batched_tokens >= c.max_num_seqs, "max_num_batched_tokens",
          c.max_num_batched_tokens, fmt::format("at least max_num_seqs, {}", c.max_num_seqs));
  require(c.max_model_len >= 2, "max_model_len", c.max_model_len, "at least 2");
  require(c.block_size >= 1, "block_size", c.block_size, "at least 1");
  require(c.num_blocks >= 1, "num_blocks", c.num_blocks, "at least 1");
  require(c.prompt_chunk >= 0, "prompt_chunk", c.prompt_chunk, "at least 0");
  require(c.lag >= 0, "lag", c.lag, "at least 0");
  require(c.lookahead >= 0 && c.lookahead <= c.lag, "lookahead", c.lookahead,
          fmt::format("between 0 and the lag, {}", c.lag));
  return c;
}

bool contains(const std::vector<std::int32_t>& values, std::int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

Scheduler::Scheduler(SchedulerConfig config)
    : config_(checked(config)),
      pool_(config_.num_blocks),
      table_(static_cast<std::size_t>(config_.max_num_seqs)),
      forecast_(config_.num_blocks, config_.block_size),
      pace_(config_.prompt_chunk, config_.max_num_seqs,
            std::int64_t{config_.num_blocks} * config_.block_size),
      in_flight_(static_cast<std::size_t>(config_.lag) + 1) {
  for (std::int32_t slot = config_.max_num_seqs - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

// --- inputs -------------------------------------------------------------------------------------

void Scheduler::apply(const StepInput& input, std::vector<SequenceUpdate>& updates) {
  if (input.step != next_step_) {
    throw std::logic_error(
        fmt::format("scheduler: input of step {} before step {}", input.step, next_step_));
  }
  for (const auto& request : input.admissions) admit(request, updates);
  for (const std::int64_t number : input.endings) end(number);
  if (input.drain) {
    is_all_ = true;
    waiting_.order_by_length(forecast_);
  }
}

void Scheduler::admit(const std::shared_ptr<const Request>& request,
                      std::vector<SequenceUpdate>& updates) {
  const SamplingParams& sampling = request->sampling;
  for (std::int32_t completion = 0; completion < sampling.n; ++completion) {
    auto sequence = std::make_unique<Sequence>();
    sequence->number = next_number_++;
    sequence->request = request;
    sequence->completion = completion;
    sequence->tokens = request->prompt_tokens;
    sequence->output_limit =
        std::min(sampling.max_tokens, config_.max_model_len - sequence->prompt_length());
    // The last token drawn is never fed back, so it needs no place in the cache.
    const bool fits =
        sequence->prompt_length() > 0 && sequence->output_limit > 0 &&
        blocks_for(sequence->known() + sequence->output_limit - 1) <= pool_.num_blocks();
    if (fits) {
      waiting_.insert(std::move(sequence), forecast_);
    } else {
      sequence->state = Sequence::State::finished;
      updates.push_back({.sequence = sequence.get(),
                         .kind = SequenceUpdate::Kind::refused,
                         .finished = true,
                         .reason = FinishReason::error});
      retired_.push_back(std::move(sequence));
    }
  }
}

void Scheduler::end(std::int64_t number) {
  const auto by_number = [](const auto& sequence, std::int64_t n) { return sequence->number < n; };
  const auto running = std::lower_bound(running_.begin(), running_.end(), number, by_number);
  if (running != running_.end() && (*running)->number == number) {
    Sequence& sequence = **running;
    running_.erase(running);
    finish(sequence);
    return settle(sequence);
  }
  if (auto waiting = waiting_.remove(number)) {
    waiting->state = Sequence::State::finished;
    retired_.push_back(std::move(waiting));
    return;
  }
  const auto leaving = std::ranges::find(leaving_, number, &Sequence::number);
  if (leaving == leaving_.end()) return;  // it has ended already
  finish(**leaving);
  leaving_.erase(leaving);
}

std::vector<std::int64_t> Scheduler::unfinished() const {
  std::vector<std::int64_t> numbers;
  for (const auto& owner : table_) {
    if (owner && owner->state != Sequence::State::finished) numbers.push_back(owner->number);
  }
  for (std::size_t i = 0; i < waiting_.size(); ++i) numbers.push_back(waiting_.at(i).number);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// The completions of a request begin in their order, so the first of them tells for all.
std::vector<std::int64_t> Scheduler::not_begun() const {
  std::vector<const Sequence*> waiting;
  for (std::size_t i = 0; i < waiting_.size(); ++i) waiting.push_back(&waiting_.at(i));
  std::ranges::sort(waiting, {}, &Sequence::number);
  std::vector<std::int64_t> numbers;
  const Request* request = nullptr;  // whose first completion waits without a token
  for (const Sequence* sequence : waiting) {
    if (sequence->completion == 0 && sequence->outputs() == 0) request = sequence->request.get();
    if (sequence->request.get() == request) numbers.push_back(sequence->number);
  }
  return numbers;
}

// --- results ------------------------------------------------------------------------------------

bool Scheduler::expects_result() const {
  return !in_flight_[static_cast<std::size_t>(next_step_ % (config_.lag + 1))].sequences.empty();
}

void Scheduler::apply(const StepResult& result, std::vector<SequenceUpdate>& updates) {
  const std::int64_t due = next_step_ - 1 - config_.lag;
  InFlight& step = in_flight(next_step_);  // the oldest: its place is next_step_'s
  if (result.step != due || result.tokens.size() != step.samples.size()) {
    throw std::logic_error(
        fmt::format("scheduler: result of step {} with {} tokens; step {} is due with {}",
                    result.step, result.tokens.size(), due, step.samples.size()));
  }
  bool any_finished = false;
  for (std::size_t row = 0; row < step.samples.size(); ++row) {
    Sequence& sequence = *step.samples[row];
    --sequence.unresolved;
    if (sequence.state == Sequence::State::finished) continue;  // surplus
    SequenceUpdate update{.sequence = &sequence, .row = static_cast<std::int32_t>(row)};
    if (resolve(sequence, result.tokens[row], update)) {
      std::erase(leaving_, &sequence);
      finish(sequence);
      any_finished = true;
    }
    updates.push_back(update);
  }
  if (any_finished) {
    std::erase_if(running_, [](const Sequence* s) { return s->state != Sequence::State::running; });
  }
  for (Sequence* sequence : step.sequences) {
    --sequence->steps_in_flight;
    settle(*sequence);
  }
  step.sequences.clear();
  step.samples.clear();
}

// Appends the token drawn and returns whether it was the last.
bool Scheduler::resolve(Sequence& sequence, std::int32_t token, SequenceUpdate& update) const {
  const SamplingParams& sampling = sequence.request->sampling;
  if (token < 0) {
    update.kind = SequenceUpdate::Kind::failed;
    update.reason = FinishReason::error;
    return update.finished = true;
  }
  sequence.tokens.push_back(token);
  if (sequence.outputs() > sampling.min_tokens) {
    update.stopped_by_eos = !sampling.ignore_eos && contains(config_.eos_token_ids, token);
    if (update.stopped_by_eos || contains(sampling.stop_token_ids, token)) {
      update.reason = FinishReason::stop;
      return update.finished = true;
    }
  }
  return update.finished = sequence.outputs() >= sequence.output_limit;
}

void Scheduler::finish(Sequence& sequence) {
  sequence.state = Sequence::State::finished;
  ++finished_;
  forecast_.finished(sequence);
}

// Frees what no step in flight uses any more.
void Scheduler::settle(Sequence& sequence) {
  if (sequence.steps_in_flight > 0) return;
  if (sequence.state == Sequence::State::finished) {
    --finished_;
    retired_.push_back(take_memory(sequence));
  } else if (sequence.state == Sequence::State::leaving) {
    std::erase(leaving_, &sequence);
    sequence.state = Sequence::State::waiting;
    sequence.scheduled = 0;
    waiting_.insert(take_memory(sequence), forecast_);
  }
}

std::unique_ptr<Sequence> Scheduler::take_memory(Sequence& sequence) {
  pool_.release(sequence.blocks);
  sequence.blocks.clear();
  free_slots_.push_back(sequence.slot);
  return std::move(table_[static_cast<std::size_t>(std::exchange(sequence.slot, -1))]);
}

// --- the next step ------------------------------------------------------------------------------

const BatchPlan& Scheduler::schedule() {
  if (expects_result()) {
    throw std::logic_error("scheduler: schedule() before the result that is due");
  }
  retired_.clear();
  work_.clear();
  budget_ = config_.max_num_batched_tokens;
  preempted_ = false;
  sequence_limit_ = share_of(running_.size() + std::min(waiting_.size(), free_slots_.size()));

  collect_decodes();
  budget_ = tokens_for_prompts();
  collect_prompt_chunks();
  if (!preempted_ && leaving_.empty()) collect_admissions();
  write_plan();
  return plan_;
}

void Scheduler::collect_decodes() {
  // Not of those that wait as well: where the cache has no room for them, one micro-batch would be
  // given all that run. Preemption shortens running_ from its end while this goes on.
  const std::size_t limit = share_of(running_.size());
  for (std::size_t i = 0; i < running_.size() && work_.size() < limit && budget_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    const std::int32_t length = sequence.known() + sequence.unresolved;
    if (sequence.unresolved > lookahead_of(sequence)) continue;
    // A token that only the device knows is on its way until all micro-batches have had a step.
    if (sequence.unresolved > 0 && next_step_ - sequence.drawing_step < micro_batches()) continue;
    if (length - sequence.scheduled != 1) continue;
    if (sequence.outputs() + sequence.unresolved >= sequence.output_limit) continue;
    if (length > static_cast<std::int32_t>(sequence.blocks.size()) * config_.block_size) {
      if (!make_room_for(sequence)) continue;
      sequence.blocks.push_back(pool_.allocate());
    }
    add_work(sequence, 1);
  }
}

std::int32_t Scheduler::micro_batches() const {
  return (config_.lag + 1) / (config_.lookahead + 1);
}

// Of so many sequences, one micro-batch's.
std::size_t Scheduler::share_of(std::size_t sequences) const {
  const auto steps = static_cast<std::size_t>(config_.lag) + 1;
  return (sequences * (static_cast<std::size_t>(config_.lookahead) + 1) + steps - 1) / steps;
}

// Penalties are made on the host, of tokens that it knows.
std::int32_t Scheduler::lookahead_of(const Sequence& sequence) const {
  return has_penalties(sequence.request->sampling) ? 0 : config_.lookahead;
}

// False when the sequence has to sit this step out, or had to give up its own place.
bool Scheduler::make_room_for(const Sequence& sequence) {
  while (pool_.num_free() == 0) {
    if (!leaving_.empty()) return false;  // its blocks come free with a step in flight
    const bool is_newest = running_.back() == &sequence;
    preempt_newest();
    if (is_newest) return false;
  }
  return true;
}

void Scheduler::preempt_newest() {
  Sequence& victim = *running_.back();
  running_.pop_back();
  victim.state = Sequence::State::leaving;
  leaving_.push_back(&victim);
  ++num_preemptions_;
  preempted_ = true;
  settle(victim);
}

std::int32_t Scheduler::tokens_for_prompts() {
  // A short queue is all there is for now: at the start of a job, when reading has just begun.
  const bool is_all = is_all_ || (!config_.shares_requests && waiting_.size() < table_.size());
  const PromptDemand demand{.running = running_,
                            .waiting = waiting_,
                            .is_all = is_all,
                            .decodes = static_cast<std::int32_t>(work_.size()),
                            .most = budget_};
  if (config_.lag > config_.lookahead) {
    return pace_.tokens_of_stages(demand, forecast_, free_slots_.size(), micro_batches());
  }
  return pace_.tokens(demand, forecast_);
}

void Scheduler::collect_prompt_chunks() {
  for (std::size_t i = 0; i < running_.size() && work_.size() < sequence_limit_ && budget_ > 0;
       ++i) {
    const std::int32_t remaining = running_[i]->known() - running_[i]->scheduled;
    if (remaining > 1) add_work(*running_[i], std::min(remaining, budget_));
  }
}

void Scheduler::collect_admissions() {
  if (waiting_.empty() || free_slots_.empty()) return;
  forecast_.begin(running_);
  while (!waiting_.empty() && !free_slots_.empty() && work_.size() < sequence_limit_ &&
         budget_ > 0) {
    const std::int32_t needed = blocks_for(waiting_.front().known());
    // A block per running sequence stays free, since the forecast may be wrong.
    if (pool_.num_free() < needed + num_running()) return;
    if (config_.forecast && !forecast_.admits(waiting_.front())) return;
    const std::int32_t slot = free_slots_.back();
    free_slots_.pop_back();
    auto& owner = table_[static_cast<std::size_t>(slot)];
    owner = waiting_.pop_front();
    owner->slot = slot;
    owner->state = Sequence::State::running;
    for (std::int32_t i = 0; i < needed; ++i) owner->blocks.push_back(pool_.allocate());
    running_.insert(std::ranges::upper_bound(running_, owner->number, {}, &Sequence::number),
                    owner.get());
    add_work(*owner, std::min(owner->known(), budget_));
  }
}

void Scheduler::add_work(Sequence& sequence, std::int32_t count) {
  work_.push_back({&sequence, count});
  budget_ -= count;
}

void Scheduler::write_plan() {
  std::int32_t width = 0;
  for (const Work& work : work_) {
    width = std::max(width, blocks_for(work.sequence->scheduled + work.count));
  }
  plan_.begin(next_step_, width);
  InFlight& step = in_flight(next_step_++);
  for (const Work& work : work_) {
    if (work.count == 1) launch(work, step);
  }
  for (const Work& work : work_) {
    if (work.count > 1) launch(work, step);
  }
}

void Scheduler::launch(const Work& work, InFlight& step) {
  Sequence& sequence = *work.sequence;
  const std::int32_t samples = plan_.num_samples();
  plan_.add(sequence, work.count, config_.block_size, config_.lookahead > 0);
  sequence.scheduled += work.count;
  ++sequence.steps_in_flight;
  step.sequences.push_back(&sequence);
  if (plan_.num_samples() > samples) {
    ++sequence.unresolved;
    sequence.drawing_step = plan_.step;
    step.samples.push_back(&sequence);
  }
}

Scheduler::InFlight& Scheduler::in_flight(std::int64_t step) {
  return in_flight_[static_cast<std::size_t>(step % (config_.lag + 1))];
}

std::int32_t Scheduler::blocks_for(std::int32_t tokens) const {
  return (tokens + config_.block_size - 1) / config_.block_size;
}

}  // namespace millrace
