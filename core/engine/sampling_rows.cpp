#include "core/engine/sampling_rows.hpp"

#include <algorithm>
#include <limits>

#include "kernels/sampling_math.hpp"

namespace millrace {

namespace {

// Below this the noise would drown in the scaled logits' rounding; vLLM's bound too.
constexpr float least_temperature = 1e-5F;

// Requests with their own seed share one key, below every byte offset: the seed alone tells them
// apart.
constexpr std::int64_t own_seed_key = -1;

}  // namespace

void SamplingRows::clear() {
  temperature.clear();
  min_p.clear();
  top_p.clear();
  top_k.clear();
  positions.clear();
  noise_keys.clear();
  edit_rows.clear();
  edit_tokens.clear();
  divide.clear();
  subtract.clear();
  any_min_p = any_top_k = any_top_p = false;
  logprobs = -1;
}

SamplingRowsBuilder::SamplingRowsBuilder(std::int32_t max_num_seqs, std::uint64_t seed,
                                         std::vector<std::int32_t> eos_token_ids)
    : seed_(seed),
      eos_token_ids_(std::move(eos_token_ids)),
      histories_(static_cast<std::size_t>(max_num_seqs)) {}

void SamplingRowsBuilder::build(std::span<const Sample> samples, SamplingRows& rows) {
  rows.clear();
  for (const Sample& sample : samples) {
    const Sequence& sequence = *sample.sequence;
    const SamplingParams& p = sequence.request->sampling;
    const auto row = static_cast<std::int32_t>(rows.size());
    const bool greedy = p.temperature < least_temperature;
    rows.temperature.push_back(greedy ? 0 : p.temperature);
    rows.min_p.push_back(p.min_p);
    rows.top_p.push_back(p.top_p);
    rows.top_k.push_back(std::max(p.top_k, 0));
    rows.positions.push_back(sequence.prompt_length() + sample.output_index);
    rows.noise_keys.push_back(
        greedy   ? 0
        : p.seed ? noise_key(*p.seed, own_seed_key, sequence.completion)
                 : noise_key(seed_, sequence.request->key.offset, sequence.completion));
    rows.any_min_p |= !greedy && p.min_p > 0;
    rows.any_top_k |= !greedy && p.top_k > 0;
    rows.any_top_p |= !greedy && p.top_p < 1;
    rows.logprobs = std::max(rows.logprobs, p.logprobs);
    add_edits(sample, row, rows);
  }
}

// One entry per token, whatever the reasons to change its logit.
void SamplingRowsBuilder::add_edits(const Sample& sample, std::int32_t row, SamplingRows& rows) {
  const Sequence& sequence = *sample.sequence;
  const SamplingParams& p = sequence.request->sampling;
  const bool must_go_on = sample.output_index < p.min_tokens;
  if (!has_penalties(p) && p.logit_bias.empty() && !must_go_on) return;

  const std::size_t first = rows.edit_rows.size();
  if (has_penalties(p)) {
    for (const TokenCount& count : history_of(sequence)) {
      const float presence = count.outputs > 0 ? p.presence_penalty : 0;
      rows.edit_rows.push_back(row);
      rows.edit_tokens.push_back(count.token);
      rows.divide.push_back(p.repetition_penalty);
      rows.subtract.push_back(presence + p.frequency_penalty * static_cast<float>(count.outputs));
    }
  }
  // The history is sorted; the few other tokens are looked for there, then behind it.
  const std::size_t sorted_end = rows.edit_tokens.size();
  const auto subtract = [&](std::int32_t token, float amount) {
    const auto begin = rows.edit_tokens.begin();
    const auto sorted = begin + static_cast<std::ptrdiff_t>(sorted_end);
    auto at = std::lower_bound(begin + static_cast<std::ptrdiff_t>(first), sorted, token);
    if (at == sorted || *at != token) at = std::find(sorted, rows.edit_tokens.end(), token);
    const auto index = static_cast<std::size_t>(at - begin);
    if (at == rows.edit_tokens.end()) {
      rows.edit_rows.push_back(row);
      rows.edit_tokens.push_back(token);
      rows.divide.push_back(1);
      rows.subtract.push_back(0);
    }
    rows.subtract[index] += amount;
  };
  for (const auto& [token, bias] : p.logit_bias) subtract(token, -bias);
  if (must_go_on) {
    constexpr float mask = std::numeric_limits<float>::infinity();
    for (const std::int32_t token : p.stop_token_ids) subtract(token, mask);
    if (!p.ignore_eos) {
      for (const std::int32_t token : eos_token_ids_) subtract(token, mask);
    }
  }
}

const std::vector<SamplingRowsBuilder::TokenCount>& SamplingRowsBuilder::history_of(
    const Sequence& sequence) {
  History& history = histories_[static_cast<std::size_t>(sequence.slot)];
  if (history.sequence != sequence.number) history = {.sequence = sequence.number, .counts = {}};
  const auto by_token = [](const TokenCount& count, std::int32_t token) {
    return count.token < token;
  };
  for (; history.seen < sequence.known(); ++history.seen) {
    const std::int32_t token = sequence.tokens[static_cast<std::size_t>(history.seen)];
    auto at = std::lower_bound(history.counts.begin(), history.counts.end(), token, by_token);
    if (at == history.counts.end() || at->token != token) {
      at = history.counts.insert(at, {.token = token});
    }
    if (history.seen >= sequence.prompt_length()) ++at->outputs;
  }
  return history.counts;
}

}  // namespace millrace
