// Settings become a RunConfig: the flags set its fields (run_flags.cpp), and here their values are
// held against each other.
#include "core/config/run_config.hpp"

#include "comm/stop_request.hpp"
#include "core/io/prompt_line.hpp"
#include "core/io/results.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

void validate(const RunConfig& config) {
  const auto require = [](const std::string& value, std::string_view flag) {
    if (value.empty()) {
      throw UserError("--{} is required; see --help", flag);
    }
  };
  require(config.model.model, "model");
  require(config.input.prompts, "prompts");
  require(config.output.output, "output");
  prompt_format(config.input.prompts);
  result_format(config.output.output);
  const EngineConfig& engine = config.engine;
  if (engine.max_num_batched_tokens && engine.max_num_batched_tokens < engine.max_num_seqs) {
    throw UserError(
        "--max-num-batched-tokens {} is less than --max-num-seqs {}: a step could not give every "
        "running sequence one token",
        *engine.max_num_batched_tokens, *engine.max_num_seqs);
  }
  const StopConfig& stop = config.stop;
  if (const double limit = stop.time_limit_seconds.value_or(0);
      limit > 0 && limit <= stop.grace_seconds + closing_seconds) {
    throw UserError(
        "--time-limit {:g} leaves no time: --grace-period {:g} and {:g} seconds for closing are "
        "part of it",
        limit, stop.grace_seconds, closing_seconds);
  }
  const GridConfig& grid = config.grid;
  const auto stages = static_cast<int>(grid.pipeline_partition.size());
  if (stages != 0 && grid.pipeline_parallel_size && *grid.pipeline_parallel_size != stages) {
    throw UserError("--pipeline-partition names {} stages but --pipeline-parallel-size is {}",
                    stages, *grid.pipeline_parallel_size);
  }
}

}  // namespace

RunConfig make_run_config(std::span<const Setting> settings) {
  RunConfig config;
  apply_settings(run_flags(config), settings);
  validate(config);
  config.settings.assign(settings.begin(), settings.end());
  return config;
}

RunConfig parse_run_config(std::span<const std::string> arguments) {
  RunConfig names;  // only the table's names and defaults are used
  return make_run_config(read_settings(run_flags(names), arguments, {}).values);
}

}  // namespace millrace
