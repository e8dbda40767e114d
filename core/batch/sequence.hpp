// One completion on its way: the scheduler's record of it, which plans and the sampler read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/batch/request.hpp"

namespace millrace {

struct Sequence {
  // waiting: owns no block. running: owns its blocks and may be scheduled. leaving: preempted, but
  // a step in flight still uses its blocks. finished: ended, and a step in flight still uses them.
  enum class State : std::uint8_t { waiting, running, leaving, finished };

  std::int64_t number = 0;  // in order of admission; the same on every rank
  std::shared_ptr<const Request> request;
  std::int32_t completion = 0;    // 0 .. n-1
  std::int32_t output_limit = 0;  // max_tokens, or less where the model's length ends first

  State state = State::waiting;
  std::int32_t slot = -1;            // [0, max_num_seqs) while it owns blocks
  std::vector<std::int32_t> tokens;  // the prompt and every output token that is known
  std::vector<std::int32_t> blocks;  // position p lies in blocks[p / block_size]
  std::int32_t scheduled = 0;        // positions whose keys and values are written or under way
  std::int32_t unresolved = 0;       // tokens being drawn by steps in flight
  std::int64_t drawing_step = -1;    // the last of these steps
  std::int32_t steps_in_flight = 0;

  std::int32_t prompt_length() const {
    return static_cast<std::int32_t>(request->prompt_tokens.size());
  }
  std::int32_t known() const { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t outputs() const { return known() - prompt_length(); }
  std::span<const std::int32_t> output_tokens() const {
    return std::span(tokens).subspan(request->prompt_tokens.size());
  }
};

}  // namespace millrace
