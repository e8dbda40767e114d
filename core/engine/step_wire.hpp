// StepInput and StepResult as bytes. Ranks of one job run one binary on one kind of machine, so
// numbers travel as they lie in memory; a version at the front catches binaries that differ. The
// layouts are written down in core/README.md.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/batch/step.hpp"

namespace millrace {

// What other ranks need of an input: of requests the key, the prompt and the sampling settings.
// Stop strings and ids stay with the leader, which alone handles text.
std::vector<std::byte> encode(const StepInput& input);
StepInput decode_step_input(std::span<const std::byte> bytes);

// `with_logprobs`: for the leader; the other ranks have no use for them.
std::vector<std::byte> encode(const StepResult& result, bool with_logprobs);
StepResult decode_step_result(std::span<const std::byte> bytes);

// The decoders throw std::runtime_error when the version differs or the bytes end early.

}  // namespace millrace
