#include "core/engine/worst_step.hpp"

#include <algorithm>

namespace millrace {

namespace {

std::vector<Sequence> sequences_of(const SamplingParams& sampling, std::int64_t count) {
  const auto request = std::make_shared<Request>();
  request->prompt_tokens = {0};
  request->sampling = sampling;
  std::vector<Sequence> sequences(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].request = request;
    sequences[i].tokens = request->prompt_tokens;
    sequences[i].slot = static_cast<std::int32_t>(i);
  }
  return sequences;
}

SamplingParams greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

SamplingParams demanding() {
  SamplingParams sampling;
  sampling.temperature = 1;
  sampling.top_k = 50;
  sampling.top_p = 0.9F;
  sampling.min_p = 0.01F;
  sampling.logprobs = 1;
  return sampling;
}

// The next sequence of the plan, which draws a token.
void add_sequence(BatchPlan& plan, std::int64_t queries, const std::vector<Sequence>& sequences) {
  const Sequence& sequence = sequences.at(static_cast<std::size_t>(plan.num_sequences()));
  for (std::int64_t i = 0; i < queries; ++i) {
    plan.tokens.push_back(0);
    plan.positions.push_back(0);
    plan.slots.push_back(-1);
  }
  const auto length = static_cast<std::int32_t>(queries);
  plan.query_starts.push_back(plan.num_tokens());
  plan.kv_lengths.push_back(length);
  plan.sequence_slots.push_back(sequence.slot);
  plan.block_tables.insert(plan.block_tables.end(),
                           static_cast<std::size_t>(plan.block_table_width), 0);
  plan.max_query_length = std::max(plan.max_query_length, length);
  plan.max_kv_length = std::max(plan.max_kv_length, length);
  plan.logits_rows.push_back(plan.num_tokens() - 1);
  plan.samples.push_back({&sequence, 0});
}

}  // namespace

WorstSteps::WorstSteps(const BatchLimits& limits)
    : limits_(limits),
      greedy_(sequences_of(greedy(), limits.sequences)),
      demanding_(sequences_of(demanding(), limits.sequences)) {}

BatchPlan WorstSteps::prompts(std::int64_t step) const {
  BatchPlan plan;
  plan.step = step;
  plan.query_starts = {0};
  plan.block_table_width = static_cast<std::int32_t>(limits_.blocks_per_sequence);
  const std::int64_t longest = limits_.blocks_per_sequence * limits_.block_size;
  // Long chunks come last: the sequences before them have a token each.
  std::int64_t chunks = 1;
  const auto singles = [&] { return std::min(limits_.sequences, limits_.tokens) - chunks; };
  while (singles() > 0 && limits_.tokens - singles() > chunks * longest) ++chunks;
  for (std::int64_t i = 0; i < singles(); ++i) add_sequence(plan, 1, demanding_);
  plan.decode_sequences = plan.num_sequences();
  const std::int64_t rest = std::min(limits_.tokens - singles(), chunks * longest);
  for (std::int64_t i = 0; i < chunks; ++i) {
    add_sequence(plan, rest * (i + 1) / chunks - rest * i / chunks, demanding_);
  }
  return plan;
}

BatchPlan WorstSteps::decode(std::int64_t step, std::int64_t sequences) const {
  BatchPlan plan;
  plan.step = step;
  plan.query_starts = {0};
  plan.block_table_width = static_cast<std::int32_t>(limits_.blocks_per_sequence);
  for (std::int64_t i = 0; i < sequences; ++i) add_sequence(plan, 1, greedy_);
  plan.decode_sequences = plan.num_sequences();
  return plan;
}

}  // namespace millrace
