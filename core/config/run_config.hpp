// Everything a run was asked to do. Parsed and validated once, then never changed; every rank holds
// the same values, and the results record them (`settings`).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config/command_line.hpp"
#include "core/weights/load_strategy.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

enum class LoadFormat { automatic, safetensors, gguf, dummy };
// What --quantization does to the layers' matrices when they are loaded.
enum class Quantization { none, fp8 };
enum class DeviceChoice { automatic, cpu, cuda };
// Where sampling defaults come from that no flag sets: the model's generation_config.json, or
// nowhere.
enum class GenerationConfigUse { automatic, none };
// What --require-transport asks of the links: `ib` and `gdrdma` of those between hosts, `p2p` and
// `nvlink` of those within tensor groups.
enum class RequiredTransport { ib, gdrdma, p2p, nvlink };
enum class LogLevel { debug, info, warning, error };

// The model and how its weights are held. A part of its own, since millrace-plan takes the same
// flags.
struct ModelConfig {
  std::string model;      // folder, .gguf file, or org/name in the Hugging Face cache
  std::string tokenizer;  // folder or tokenizer.json or .gguf; empty: the model's own
  LoadFormat load_format = LoadFormat::automatic;
  LoadStrategy load_strategy = LoadStrategy::automatic;
  std::optional<DType> dtype;  // of weights; unset: the checkpoint's
  Quantization quantization = Quantization::none;
  std::optional<DType> kv_cache_dtype;  // unset: chosen with the device
  std::optional<std::int64_t>
      max_model_len;  // tokens, prompt and output; unset: the model's own limit
};

// The grid; what is unset is chosen.
struct GridConfig {
  std::optional<int> tensor_parallel_size;
  std::optional<int> pipeline_parallel_size;
  std::optional<int> data_parallel_size;
  std::vector<int> pipeline_partition;  // layers of each stage; empty: split by cost
};

struct LinkConfig {
  std::vector<RequiredTransport> required;  // refuse to start when a link is slower
};

struct EngineConfig {
  DeviceChoice device = DeviceChoice::automatic;
  std::optional<int> max_num_seqs;            // of one replica's running set; unset: by the device
  std::optional<int> max_num_batched_tokens;  // in one step; unset: by the device
  int block_size = 0;                         // tokens in one KV block
  std::optional<std::int64_t> kv_cache_memory_bytes;  // per rank; unset: from the memory there is
  double gpu_memory_utilization = 0;  // fraction of a GPU's memory that the run may use
  bool nvls = false;                  // NCCL may use NVLink multicast
};

// What the sampling flags set; what is unset falls to generation_config.json, then to
// SamplingParams' own defaults. A prompt's own fields win over all of it.
struct SamplingConfig {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> max_tokens, min_tokens;
  std::vector<std::string> stop;
  std::vector<int> stop_token_ids;
  std::optional<bool> ignore_eos, include_stop_str_in_output, skip_special_tokens;
  std::optional<int> logprobs, n;
  std::uint64_t seed = 0;  // of the run; a prompt's own seed replaces it for that prompt
  GenerationConfigUse generation_config = GenerationConfigUse::automatic;
};

// Part `index` of `count` of the prompt file.
struct Shard {
  int index = 0;
  int count = 1;
};

struct InputConfig {
  std::string prompts;  // .txt or .jsonl
  Shard shard;
  std::string chat_template;  // a Jinja2 file; empty: the model's own
};

struct OutputConfig {
  std::string output;  // .h5, .hdf5 or .jsonl
  bool overwrite = false;
  int mode = 0600;  // permissions of the result
  bool return_prompt_token_ids = false;
};

// The journal of finished prompts, OUTPUT.spool.
struct JournalConfig {
  bool resume = false;
  bool deep = false;                       // the fingerprint covers every byte
  double checkpoint_interval_seconds = 0;  // what is finished is on the disk after at most this
};

// When and how a job ends before its end.
struct StopConfig {
  std::optional<double> time_limit_seconds;  // since the job's start; 0: none; unset: Slurm's
  double grace_seconds = 0;                  // for what runs when the job stops
  double watchdog_seconds = 0;               // without progress: a rank hangs
};

struct LogConfig {
  bool prompts = false;                  // prompts and answers are logged
  double progress_interval_seconds = 0;  // between progress lines in a log; 0: none
  LogLevel level = LogLevel::info;
};

struct RunConfig {
  ModelConfig model;
  GridConfig grid;
  LinkConfig links;
  EngineConfig engine;
  SamplingConfig sampling;
  InputConfig input;
  OutputConfig output;
  JournalConfig journal;
  StopConfig stop;
  LogConfig log;
  std::vector<Setting> settings;  // every flag with its value and source, for the results
};

// The flags of `millrace`, writing into `config`, which must outlive them.
std::vector<Flag> run_flags(RunConfig& config);
// Its groups that other programs take flags from as well.
std::vector<Flag> model_flags(ModelConfig& config);
std::vector<Flag> grid_flags(GridConfig& config);
std::vector<Flag> link_flags(LinkConfig& config);
std::vector<Flag> engine_flags(EngineConfig& config);

// Settings -> config. Throws UserError for a value out of its range, values that contradict each
// other, or a required flag that is missing. Touches no file.
RunConfig make_run_config(std::span<const Setting> settings);

// The same of arguments alone, without environment and config file: for programs that make up a
// command line, and for tests.
RunConfig parse_run_config(std::span<const std::string> arguments);

}  // namespace millrace
