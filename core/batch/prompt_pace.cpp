#include "core/batch/prompt_pace.hpp"

#include <algorithm>
#include <utility>

namespace millrace {

namespace {

// Up to about so many tokens a step's products take hardly longer than the reading of the weights
// (their floors of bytes and operations meet at 250 to 300 rows on an H100).
constexpr std::int64_t cheap_tokens = 256;
// Matrix products take whole tiles of rows: on an H100 steps of 537 rows, as they came, took 21.7
// ms, which is what 768 would take; steps of 493 that fill their tiles took 17.0.
constexpr std::int64_t row_tile = 128;
constexpr std::int64_t many_rows = 512;  // above, tiles of twice as many
// Every so many steps prompts go on, however slowly they may.
constexpr std::int64_t longest_pause = 32;
// Above many_rows decodes alone keep the products busy: a prompt's rows cost no less there than
// elsewhere, and what else a step with prompts takes (attention 37 us a layer on an H100, however
// few they are) is taken less often when so many chunks go together. But prompts do not wait longer
// for it than so many steps.
constexpr std::int64_t most_chunks = 4;
constexpr std::int64_t gathered_steps = 16;

std::int64_t left_of_prompt(const Sequence& sequence) {
  return sequence.known() - sequence.scheduled;
}

// The most rows, `rows` or fewer, that fill their tiles.
std::int64_t whole_tiles(std::int64_t rows) {
  const std::int64_t tile = rows > many_rows ? 2 * row_tile : row_tile;
  return rows / tile * tile;
}

// Sums over all sequences that run or wait.
struct Totals {
  std::int64_t count = 0;
  std::int64_t prompts = 0;    // tokens
  std::int64_t outputs = 0;    // tokens, those expected included
  std::int64_t lengths = 0;    // mean use of the cache by each
  std::int64_t ends = 0;       // use of the cache by each at its end
  std::int64_t remaining = 0;  // steps of each, expected
  std::int64_t longest = 0;    // of `remaining`
  bool are_known = true;       // no token ends one early

  Totals(const PromptDemand& demand, const CacheForecast& forecast) {
    for (const Sequence* sequence : demand.running) add(*sequence, forecast);
    for (std::size_t i = 0; i < demand.waiting.size(); ++i) add(demand.waiting.at(i), forecast);
  }

  void add(const Sequence& sequence, const CacheForecast& forecast) {
    const std::int64_t steps = forecast.remaining_steps(sequence);
    const std::int64_t length = sequence.outputs() + steps;
    ++count;
    prompts += sequence.prompt_length();
    outputs += length;
    lengths += forecast.held_tokens(sequence.prompt_length() + length / 2);
    ends += forecast.held_tokens(sequence.prompt_length() + length);
    remaining += steps;
    longest = std::max(longest, steps);
    are_known = are_known && !can_end_by_token(sequence.request->sampling);
  }
};

// How many may run.
struct Places {
  std::int64_t wanted;
  std::int64_t at_once;  // that begin together, and reach their ends together
  std::int64_t taken;    // in the long run, when all are of different ages

  Places(const Totals& all, std::int64_t max_num_seqs, std::int64_t cache_tokens)
      : wanted(std::min(max_num_seqs, all.count)),
        at_once(cache_tokens * all.count / all.ends),
        taken(std::max<std::int64_t>(1, std::min(wanted, cache_tokens * all.count / all.lengths))) {
  }
};

// The least tokens a step that let all be done after `steps` more: what has been begun by then
// must still be able to generate all it will.
std::int64_t share_in_time(const PromptDemand& demand, const CacheForecast& forecast,
                           std::int64_t steps) {
  std::int64_t share = 0;
  std::int64_t tokens = 0;
  const auto add = [&](const Sequence& sequence) {
    tokens += left_of_prompt(sequence);
    const std::int64_t pause = steps - forecast.remaining_steps(sequence);
    share = std::max(share, tokens / std::max<std::int64_t>(pause, 1));
  };
  for (const Sequence* sequence : demand.running) {
    if (left_of_prompt(*sequence) > 1) add(*sequence);
  }
  for (std::size_t i = 0; i < demand.waiting.size(); ++i) add(demand.waiting.at(i));
  return share;
}

}  // namespace

PromptPace::PromptPace(std::int32_t chunk, std::int32_t max_num_seqs, std::int64_t cache_tokens)
    : chunk_(chunk), max_num_seqs_(max_num_seqs), cache_tokens_(cache_tokens) {}

// 1,000 requests like ShareGPT's took 22.3 s on an H100, and 26.1 s when all prompts ran at once; a
// simulation with that GPU's times foretold it within 2 %, and says 368 s instead of 391 for 3,000
// requests of 1,000 tokens in and out, where the cache limits.
std::int64_t PromptPace::share(const PromptDemand& demand, const CacheForecast& forecast) const {
  const Totals all(demand, forecast);
  const Places places(all, max_num_seqs_, cache_tokens_);
  const bool cache_limits = places.at_once < places.wanted;
  std::int64_t share = demand.most;
  if (cache_limits) share = std::min(share, places.taken * all.prompts / all.outputs);
  if (demand.is_all && all.longest > all.remaining / places.taken) {
    share = std::min(share, share_in_time(demand, forecast, all.longest));
  }
  const std::int64_t least = (chunk_ + 2 * row_tile) / longest_pause;
  // A start that is quicker than the pace is missed by the cache when it ends as it began.
  const bool begins_quickly = !cache_limits || !all.are_known;
  return std::max({share, begins_quickly ? cheap_tokens - demand.decodes : 0, least});
}

std::int64_t PromptPace::least_tokens(std::int64_t share, std::int64_t decodes) const {
  if (decodes <= many_rows) return chunk_;
  return std::clamp(gathered_steps * share, chunk_, most_chunks * chunk_);
}

std::int32_t PromptPace::tokens(const PromptDemand& demand, const CacheForecast& forecast) {
  if (chunk_ == 0) return demand.most;
  std::int64_t pending = demand.waiting.tokens();
  for (const Sequence* sequence : demand.running) {
    if (left_of_prompt(*sequence) > 1) pending += left_of_prompt(*sequence);
  }
  const std::int64_t most = std::min(pending, std::int64_t{demand.most});
  if (pending == 0) {
    saved_ = 0;
    return 0;
  }
  const std::int64_t share = this->share(demand, forecast);
  const std::int64_t chunk = least_tokens(share, demand.decodes);
  saved_ += share;
  // A step without decodes reads all weights for its prompts alone, so it takes a tile at least.
  if (demand.decodes == 0) saved_ = std::max({saved_, chunk, row_tile});
  if (saved_ >= most) {
    saved_ = 0;
    return static_cast<std::int32_t>(most);
  }
  const std::int64_t tokens = whole_tiles(demand.decodes + saved_) - demand.decodes;
  if (tokens < chunk / 2 || saved_ < chunk) return 0;
  saved_ -= tokens;
  return static_cast<std::int32_t>(tokens);
}

// Prompts are spread over steps to come. In simulated pipelines of 2 and 4 stages this took 5 to
// 40 % off the time of a job; shorter spreads took less, and a smaller least chunk made small jobs
// slower. The share does not shrink with what is left: it would for ever, and the last prompts
// would come so late that most of their answers' steps have few others to share the weights with
// (12 % of the time of 512 requests of 1,000 + 256 tokens on 2 GPUs).
//
// Where the cache cannot hold all at their ends, and would leave steps too few decodes to keep the
// products busy, prompts begin at the rate at which they will end: else all stages read their
// weights for a few rows, step after step, between one lot of prompts and the next. In a simulation
// of 3,000 requests of 1,000 tokens in and out on a 70B model and 2 H200s, where 250 run at once,
// this took 11 % off.
std::int32_t PromptPace::tokens_of_stages(const PromptDemand& demand, const CacheForecast& forecast,
                                          std::size_t free_places, std::int32_t steps) {
  constexpr std::int64_t spread = 32;  // steps of each micro-batch
  constexpr std::int64_t least = 16;   // tokens
  std::int64_t pending = 0;
  for (const Sequence* sequence : demand.running) {
    if (left_of_prompt(*sequence) > 1) pending += left_of_prompt(*sequence);
  }
  const std::size_t next = std::min(demand.waiting.size(), free_places);
  for (std::size_t i = 0; i < next; ++i) pending += demand.waiting.at(i).known();
  if (pending == 0) stages_share_ = 0;
  stages_share_ =
      std::max({stages_share_, least, (pending + spread * steps - 1) / (spread * steps)});
  std::int64_t share = std::min<std::int64_t>(stages_share_, demand.most);
  if (chunk_ > 0 && pending > 0) {
    const Totals all(demand, forecast);
    const Places places(all, max_num_seqs_, cache_tokens_);
    // A few that do not fit are no reason to begin all of them late.
    const bool cache_limits = places.at_once < places.wanted - places.wanted / 16;
    if (cache_limits && places.taken < steps * many_rows) {
      const std::int64_t quick = all.are_known ? least : cheap_tokens - demand.decodes;
      share = std::min(
          share, std::max({least, quick, places.taken * all.prompts / (all.outputs * steps)}));
    }
  }
  return static_cast<std::int32_t>(share);
}

}  // namespace millrace
