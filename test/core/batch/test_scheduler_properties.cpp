// Properties that hold for any workload, over random ones. A shadow cache stands in for the
// executor: it remembers which sequence's token lies in which slot, so that a slot used twice, a
// token computed out of order or a block freed too early is seen at the step where it happens.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <random>

#include "core/batch/scheduler.hpp"
#include "core/engine/step_wire.hpp"

namespace millrace {
namespace {

constexpr std::int32_t eos = 1;

struct Workload {
  SchedulerConfig config;
  std::vector<std::shared_ptr<const Request>> requests;
  std::vector<std::int64_t> arrivals;                 // step before which each request is admitted
  std::map<std::int64_t, std::int32_t> host_endings;  // sequence number -> outputs it ends after
  std::int64_t stop_step = std::numeric_limits<std::int64_t>::max();  // the job stops before it
  std::int64_t grace_steps = 0;  // later what still runs is dropped
  bool is_announced = false;     // the input says so when nothing more will come
};

Workload random_workload(std::uint64_t seed, std::int32_t lag, std::int32_t lookahead) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  Workload w;
  w.config.lag = lag;
  w.config.lookahead = lookahead;
  w.config.block_size = pick(1, 5);
  w.config.max_num_seqs = pick(1, 7);
  w.config.max_num_batched_tokens = w.config.max_num_seqs + pick(0, 20);
  w.config.max_model_len = pick(12, 40);
  w.config.num_blocks = pick(2, 30);  // often too few for all, at times for one
  w.config.forecast = pick(0, 3) == 0;
  w.config.prompt_chunk = pick(0, 1) == 0 ? 0 : pick(1, 20);
  w.is_announced = pick(0, 1) == 0;
  w.config.eos_token_ids = {eos};
  std::int64_t step = 0;
  std::int64_t number = 0;
  for (std::int32_t i = pick(1, 9); i > 0; --i) {
    auto request = std::make_shared<Request>();
    request->key.offset = pick(0, 1 << 20);
    request->prompt_tokens.resize(static_cast<std::size_t>(pick(1, w.config.max_model_len - 1)));
    for (auto& token : request->prompt_tokens) token = pick(2, 9);
    request->sampling.max_tokens = pick(1, 20);
    request->sampling.min_tokens = pick(0, 3) == 0 ? pick(0, request->sampling.max_tokens) : 0;
    request->sampling.ignore_eos = pick(0, 3) == 0;
    if (pick(0, 3) == 0) request->sampling.stop_token_ids = {pick(2, 9)};
    if (pick(0, 5) == 0) request->sampling.repetition_penalty = 1.5F;
    if (pick(0, 5) == 0) request->sampling.stop = {"ends it on the leader alone"};
    request->sampling.n = pick(0, 4) == 0 ? pick(2, 3) : 1;
    for (std::int32_t c = 0; c < request->sampling.n; ++c, ++number) {
      if (pick(0, 4) == 0) w.host_endings[number] = pick(1, 8);
    }
    w.requests.push_back(request);
    step += pick(0, 2) == 0 ? pick(0, 12) : 0;
    w.arrivals.push_back(step);
  }
  if (pick(0, 2) == 0) {
    w.stop_step = pick(0, static_cast<std::int32_t>(step) + 40);
    w.grace_steps = pick(0, 20);
  }
  return w;
}

// What the "model" draws: any function of the sequence and the position will do.
std::int32_t drawn_token(const Sequence& sequence, std::int32_t output_index) {
  std::uint64_t x = static_cast<std::uint64_t>(sequence.number) * 7919 +
                    static_cast<std::uint64_t>(output_index) * 104729 + 12345;
  x ^= x >> 7;
  x *= 0x9e3779b97f4a7c15ULL;
  const bool may_end = output_index >= sequence.request->sampling.min_tokens;
  const auto token = static_cast<std::int32_t>((x >> 40) % 16);
  if (token >= 10 || token == 0) return 9;
  if (!may_end && (token == eos ||
                   sequence.request->sampling.stop_token_ids == std::vector<std::int32_t>{token})) {
    return 0;
  }
  return token;
}

// What the sequence must give, found without a scheduler.
std::pair<std::vector<std::int32_t>, FinishReason> expected_outputs(const Sequence& sequence,
                                                                    std::int32_t limit) {
  const SamplingParams& sampling = sequence.request->sampling;
  std::vector<std::int32_t> outputs;
  for (std::int32_t i = 0; i < limit; ++i) {
    const std::int32_t token = drawn_token(sequence, i);
    outputs.push_back(token);
    const bool stops = (token == eos && !sampling.ignore_eos) ||
                       std::ranges::count(sampling.stop_token_ids, token) > 0;
    if (stops && i >= sampling.min_tokens) return {outputs, FinishReason::stop};
  }
  return {outputs, FinishReason::length};
}

std::int32_t expected_token(const Sequence& sequence, std::int32_t position) {
  return position < sequence.prompt_length()
             ? sequence.request->prompt_tokens[static_cast<std::size_t>(position)]
             : drawn_token(sequence, position - sequence.prompt_length());
}

class ShadowExecutor {
 public:
  explicit ShadowExecutor(const SchedulerConfig& config)
      : config_(config),
        cells_(static_cast<std::size_t>(config.num_blocks * config.block_size)),
        block_users_(static_cast<std::size_t>(config.num_blocks)),
        latest_(static_cast<std::size_t>(config.max_num_seqs), -1) {}

  // Runs the plan and returns what it draws. `by_slot` names the sequence in each sequence slot.
  StepResult run(const BatchPlan& plan, const std::vector<const Sequence*>& by_slot) {
    StepResult result{.step = plan.step, .tokens = {}, .logprobs = {}};
    const std::int64_t micro_batches = (config_.lag + 1) / (config_.lookahead + 1);
    for (; !drawn_.empty() && drawn_.front().step + micro_batches <= plan.step;
         drawn_.pop_front()) {
      latest_[static_cast<std::size_t>(drawn_.front().slot)] = drawn_.front().token;
    }
    EXPECT_LE(plan.num_tokens(), config_.max_num_batched_tokens);
    EXPECT_LE(plan.num_sequences(), config_.max_num_seqs);
    for (std::int32_t s = 0; s < plan.num_sequences(); ++s) {
      const auto i = static_cast<std::size_t>(s);
      const Sequence& sequence = *by_slot[static_cast<std::size_t>(plan.sequence_slots[i])];
      check_sequence(plan, i, sequence);
    }
    for (std::size_t r = 0; r < plan.samples.size(); ++r) {
      const Sample& sample = plan.samples[r];
      const auto row = static_cast<std::size_t>(plan.logits_rows[r]);
      EXPECT_EQ(plan.positions[row] + 1 - sample.sequence->prompt_length(), sample.output_index);
      const std::int32_t token = drawn_token(*sample.sequence, sample.output_index);
      drawn_.push_back({plan.step, sample.sequence->slot, token});
      result.tokens.push_back(token);
    }
    return result;
  }

 private:
  struct Cell {
    std::int64_t sequence = -1;
    std::int32_t position = -1;
  };
  struct BlockUser {
    std::int64_t sequence = -1;
    std::int64_t step = -1;
  };

  void check_sequence(const BatchPlan& plan, std::size_t i, const Sequence& sequence) {
    const std::int32_t begin = plan.query_starts[i];
    const std::int32_t end = plan.query_starts[i + 1];
    const std::int32_t length = plan.kv_lengths[i];
    EXPECT_LT(begin, end);
    EXPECT_EQ(end - begin == 1, static_cast<std::int32_t>(i) < plan.decode_sequences);
    EXPECT_LE(end - begin, plan.max_query_length);
    EXPECT_LE(length, plan.max_kv_length);
    EXPECT_LT(length, config_.max_model_len);
    const std::int32_t* table =
        plan.block_tables.data() + i * static_cast<std::size_t>(plan.block_table_width);
    for (std::int32_t t = begin; t < end; ++t) {
      const auto row = static_cast<std::size_t>(t);
      const std::int32_t position = length - (end - begin) + (t - begin);
      const std::int32_t slot = plan.slots[row];
      EXPECT_EQ(plan.positions[row], position);
      EXPECT_EQ(slot, table[position / config_.block_size] * config_.block_size +
                          position % config_.block_size);
      const std::int32_t source = plan.token_sources.empty() ? -1 : plan.token_sources[row];
      EXPECT_EQ(source < 0 ? plan.tokens[row] : latest_.at(static_cast<std::size_t>(source)),
                expected_token(sequence, position));
      cells_.at(static_cast<std::size_t>(slot)) = {sequence.number, position};
    }
    // Attention reads all positions so far: each must still hold this sequence's own token.
    for (std::int32_t position = 0; position < length; ++position) {
      const auto slot =
          static_cast<std::size_t>(table[position / config_.block_size] * config_.block_size +
                                   position % config_.block_size);
      EXPECT_EQ(cells_.at(slot).sequence, sequence.number);
      EXPECT_EQ(cells_.at(slot).position, position);
    }
    for (std::int32_t b = 0; b * config_.block_size < length; ++b) {
      BlockUser& user = block_users_.at(static_cast<std::size_t>(table[b]));
      const bool in_flight = user.step >= 0 && user.step >= plan.step - config_.lag;
      EXPECT_TRUE(user.sequence == sequence.number || !in_flight) << "block freed in flight";
      user = {sequence.number, plan.step};
    }
  }

  SchedulerConfig config_;
  std::vector<Cell> cells_;
  std::vector<BlockUser> block_users_;
  struct Drawn {
    std::int64_t step;
    std::int32_t slot;
    std::int32_t token;
  };
  std::vector<std::int32_t> latest_;  // by slot, where the model begins
  std::deque<Drawn> drawn_;           // on the way there: while every micro-batch has a step
};

bool equal_plans(const BatchPlan& a, const BatchPlan& b) {
  return a.step == b.step && a.tokens == b.tokens && a.token_sources == b.token_sources &&
         a.positions == b.positions && a.slots == b.slots && a.query_starts == b.query_starts &&
         a.kv_lengths == b.kv_lengths && a.sequence_slots == b.sequence_slots &&
         a.block_tables == b.block_tables && a.logits_rows == b.logits_rows &&
         a.decode_sequences == b.decode_sequences;
}

struct Outcome {
  std::int64_t steps = 0;
  std::int64_t preemptions = 0;
  std::int64_t refused = 0;
  std::int64_t not_begun = 0;  // sequences dropped when the job stopped
  std::int64_t dropped = 0;    // ... and when its grace was over
};

// What a stop drops at once: sequences of requests that have no token, and all that wait of them.
void check_not_begun(const std::vector<std::int64_t>& numbers, const Workload& w,
                     const std::map<std::int64_t, std::int32_t>& tokens) {
  std::int64_t first = 0;  // of the request's completions
  for (const auto& request : w.requests) {
    const std::int64_t end = first + request->sampling.n;
    bool has_token = false;
    bool is_dropped = false;
    for (std::int64_t number = first; number < end; ++number) {
      has_token |= tokens.contains(number);
      is_dropped |= std::ranges::count(numbers, number) > 0;
    }
    EXPECT_FALSE(has_token && is_dropped) << "request of sequence " << first;
    first = end;
  }
}

// Runs the workload through two schedulers at once, a leader's and another rank's, and checks
// everything on the way.
Outcome check_workload(const Workload& w) {
  Scheduler scheduler(w.config);
  Scheduler twin(w.config);
  ShadowExecutor executor(w.config);
  std::vector<const Sequence*> by_slot(static_cast<std::size_t>(w.config.max_num_seqs));
  std::vector<StepResult> results;  // by step
  std::vector<SequenceUpdate> updates;
  std::vector<SequenceUpdate> twin_updates;
  std::vector<std::int64_t> endings;
  std::map<std::int64_t, std::int64_t> last_scheduled;  // sequence -> step
  std::map<std::int64_t, bool> done;                    // sequence -> ended
  bool is_all = false;                                  // and the scheduler knows it
  std::int64_t newest_started = -1;
  std::map<std::int64_t, std::int32_t> tokens;  // sequence -> drawn so far
  std::size_t arrived = 0;
  std::int64_t sequences = 0;
  Outcome outcome;

  while ((arrived < w.requests.size() && scheduler.next_step() <= w.stop_step) ||
         !scheduler.idle()) {
    const std::int64_t step = scheduler.next_step();
    const bool is_over = step > w.stop_step + w.grace_steps;
    EXPECT_FALSE(is_over && step > w.stop_step + w.grace_steps + w.config.lag + 1)
        << "work goes on that was dropped";
    if (step > 5000) {
      ADD_FAILURE() << "no end in sight";
      break;
    }
    StepInput input{.step = step, .admissions = {}, .endings = {}};
    std::swap(input.endings, endings);
    while (arrived < w.requests.size() && w.arrivals[arrived] <= step && step < w.stop_step) {
      sequences += w.requests[arrived]->sampling.n;
      input.admissions.push_back(w.requests[arrived++]);
    }
    if (w.is_announced && arrived == w.requests.size()) {
      input.drain = !is_all;
      is_all = true;
    }
    const auto drop = [&](const std::vector<std::int64_t>& numbers, std::int64_t& count) {
      input.endings.insert(input.endings.end(), numbers.begin(), numbers.end());
      count += static_cast<std::int64_t>(numbers.size());
    };
    if (step == w.stop_step) {
      EXPECT_EQ(scheduler.not_begun(), twin.not_begun());
      check_not_begun(scheduler.not_begun(), w, tokens);
      drop(scheduler.not_begun(), outcome.not_begun);
    }
    if (step == w.stop_step + w.grace_steps) {
      EXPECT_EQ(scheduler.unfinished(), twin.unfinished());
      for (const std::int64_t number : scheduler.unfinished()) EXPECT_FALSE(done[number]);
      drop(scheduler.unfinished(), outcome.dropped);
    }
    updates.clear();
    twin_updates.clear();
    scheduler.apply(input, updates);
    twin.apply(decode_step_input(encode(input)), twin_updates);
    for (const std::int64_t number : input.endings) done[number] = true;
    if (scheduler.expects_result()) {
      const StepResult& result = results[static_cast<std::size_t>(step - 1 - w.config.lag)];
      scheduler.apply(result, updates);
      twin.apply(result, twin_updates);
    }
    EXPECT_EQ(updates.size(), twin_updates.size());
    for (const SequenceUpdate& update : updates) {
      const Sequence& sequence = *update.sequence;
      if (update.kind == SequenceUpdate::Kind::refused) {
        ++outcome.refused;
        done[sequence.number] = true;
        const std::int32_t length = std::min(
            sequence.known() + sequence.request->sampling.max_tokens, w.config.max_model_len);
        EXPECT_GT(length - 1, w.config.num_blocks * w.config.block_size);
        continue;
      }
      EXPECT_FALSE(done[sequence.number]) << "a token after the end";
      ++tokens[sequence.number];
      const auto [expected, reason] = expected_outputs(sequence, sequence.output_limit);
      const auto outputs = sequence.output_tokens();
      EXPECT_LE(outputs.size(), expected.size());
      EXPECT_TRUE(std::equal(outputs.begin(), outputs.end(), expected.begin()));
      EXPECT_EQ(update.finished, outputs.size() == expected.size());
      if (update.finished) {
        EXPECT_EQ(update.reason, reason);
        done[sequence.number] = true;
      } else if (const auto ending = w.host_endings.find(sequence.number);
                 ending != w.host_endings.end() && ending->second == sequence.outputs()) {
        endings.push_back(sequence.number);
      }
    }

    const BatchPlan& plan = scheduler.schedule();
    EXPECT_TRUE(equal_plans(plan, twin.schedule()));
    for (const Sample& sample : plan.samples) {
      by_slot[static_cast<std::size_t>(sample.sequence->slot)] = sample.sequence;
    }
    for (const Sequence* sequence : scheduler.running()) {
      by_slot[static_cast<std::size_t>(sequence->slot)] = sequence;
    }
    results.push_back(executor.run(plan, by_slot));

    const std::int64_t newest_before = newest_started;
    for (const std::int32_t slot : plan.sequence_slots) {
      const std::int64_t number = by_slot[static_cast<std::size_t>(slot)]->number;
      if (!last_scheduled.contains(number)) {
        EXPECT_TRUE(is_all || number > newest_before) << "not first come, first served";
        newest_started = std::max(newest_started, number);
      }
      EXPECT_FALSE(done[number]) << "scheduled after its end";
      last_scheduled[number] = step;
    }
    // The oldest running sequence never waits longer than for its own result, for a victim's, and
    // for what a step's prompts are gathered for.
    if (!scheduler.running().empty()) {
      const Sequence& oldest = *scheduler.running().front();
      const std::int64_t pause = w.config.prompt_chunk > 0 ? 32 : 0;
      EXPECT_LE(step - last_scheduled[oldest.number], 2 * (w.config.lag + 1) + pause);
    }
  }
  EXPECT_EQ(scheduler.blocks_in_use(), 0);
  EXPECT_EQ(std::ranges::count_if(done, [](const auto& entry) { return entry.second; }), sequences);
  outcome.steps = scheduler.next_step();
  outcome.preemptions = scheduler.num_preemptions();
  return outcome;
}

struct Lag {
  std::int32_t lag;
  std::int32_t lookahead;
};

class SchedulerProperties : public testing::TestWithParam<Lag> {};

TEST_P(SchedulerProperties, HoldFor10000RandomWorkloads) {
  Outcome total;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    const Outcome outcome =
        check_workload(random_workload(seed, GetParam().lag, GetParam().lookahead));
    ASSERT_FALSE(HasFailure()) << "workload " << seed;
    total.steps += outcome.steps;
    total.preemptions += outcome.preemptions;
    total.refused += outcome.refused;
    total.not_begun += outcome.not_begun;
    total.dropped += outcome.dropped;
  }
  // The workloads must have met what is hard.
  EXPECT_GT(total.preemptions, 1000);
  EXPECT_GT(total.refused, 1000);
  EXPECT_GT(total.not_begun, 1000);
  EXPECT_GT(total.dropped, 500);
}

INSTANTIATE_TEST_SUITE_P(Lags, SchedulerProperties,
                         testing::Values(Lag{0, 0}, Lag{1, 0}, Lag{2, 0}, Lag{3, 0}, Lag{4, 0},
                                         Lag{1, 1}, Lag{2, 1}, Lag{3, 1}, Lag{7, 1}),
                         [](const auto& lag) {
                           return "Lag" + std::to_string(lag.param.lag) + "Lookahead" +
                                  std::to_string(lag.param.lookahead);
                         });

}  // namespace
}  // namespace millrace
