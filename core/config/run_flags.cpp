// The flags of `millrace`. One row is all there is to a flag: to add one, add a field to
// run_config.hpp and a row here, which says whether a job may be resumed with another value. Where
// it may not, core/job/job_fingerprint.cpp has to say the value that took effect. What values say
// of each other is checked in run_config.cpp.
#include <limits>

#include "core/config/run_config.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Kind = Flag::Kind;
using Change = Flag::Change;

constexpr std::int64_t kMaxInt = std::numeric_limits<int>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Setters for the common shapes of field.
auto into(std::string& field) {
  return [&field](const FlagValue& value) { field = value.text(); };
}
auto into(bool& field) {
  return [&field](const FlagValue& value) { field = value.boolean(); };
}
auto into(std::optional<bool>& field) {
  return [&field](const FlagValue& value) { field = value.boolean(); };
}
auto into(int& field, std::int64_t low, std::int64_t high = kMaxInt) {
  return [&field, low, high](const FlagValue& value) {
    field = static_cast<int>(value.integer(low, high));
  };
}
auto into(std::optional<int>& field, std::int64_t low, std::int64_t high = kMaxInt) {
  return [&field, low, high](const FlagValue& value) {
    field = static_cast<int>(value.integer(low, high));
  };
}
auto into(std::optional<float>& field, double low, double high) {
  return [&field, low, high](const FlagValue& value) {
    const double number = value.real(low, high);
    if (number > std::numeric_limits<float>::max()) value.reject("a number that a float holds");
    field = static_cast<float>(number);
  };
}

// "640"
int file_mode(const FlagValue& value) {
  const std::string& text = value.text();
  if (text.size() < 3 || text.size() > 4 || text.find_first_not_of("01234567") < text.size() ||
      std::stoi(text, nullptr, 8) > 0777) {
    value.reject("a file mode such as 600 or 640");
  }
  return std::stoi(text, nullptr, 8);
}

// "2/8"
Shard shard_of(const FlagValue& value) {
  const std::size_t slash = value.text().find('/');
  if (slash == std::string::npos) {
    value.reject("a shard such as 2/8");
  }
  Shard shard;
  try {
    shard.count =
        static_cast<int>(FlagValue("", value.text().substr(slash + 1)).integer(1, kMaxInt));
    shard.index =
        static_cast<int>(FlagValue("", value.text().substr(0, slash)).integer(0, shard.count - 1));
  } catch (const UserError&) {
    value.reject("a shard I/N with I from 0 to N-1");
  }
  return shard;
}

std::vector<Flag> input_flags(InputConfig& config) {
  const std::string group = "Input";
  return {
      {group, "prompts", "", Kind::value, "FILE", "",
       "Prompts: .txt, one a line, or .jsonl, one object a line.", into(config.prompts),
       Change::files},
      {group, "chat-template", "", Kind::value, "FILE", "",
       "Jinja2 template for prompts given as messages, instead of the model's own.",
       into(config.chat_template), Change::files},
      {group, "shard", "", Kind::value, "I/N", "0/1",
       "Answer part I of N of the prompt file, counted from 0; millrace-report --merge joins them.",
       [&config](const FlagValue& value) { config.shard = shard_of(value); }, Change::range},
  };
}

std::vector<Flag> output_flags(OutputConfig& config) {
  const std::string group = "Output";
  return {
      {group, "output", "", Kind::value, "FILE", "",
       "Results and report: .h5 or .hdf5, or .jsonl (its report beside it as FILE.report.h5).",
       into(config.output), Change::free},
      {group, "overwrite", "", Kind::toggle, "", "false", "Replace an output file that exists.",
       into(config.overwrite), Change::free},
      {group, "output-mode", "", Kind::value, "MODE", "600",
       "Permissions of the result file, as chmod takes them. The journal's are always 600.",
       [&config](const FlagValue& value) { config.mode = file_mode(value); }, Change::free},
      {group, "return-prompt-token-ids", "", Kind::toggle, "", "false",
       "Also write each prompt's token ids.", into(config.return_prompt_token_ids), Change::free},
  };
}

std::vector<Flag> sampling_flags(SamplingConfig& config) {
  const std::string group = "Sampling (defaults for prompts that do not say otherwise)";
  return {
      {group, "generation-config", "", Kind::value, "auto|none", "auto",
       "Take unset sampling values from the model's generation_config.json, or from nowhere.",
       [&config](const FlagValue& value) {
         config.generation_config = static_cast<GenerationConfigUse>(value.word({"auto", "none"}));
       },
       Change::free},
      {group, "temperature", "", Kind::value, "T", "",
       "0 is greedy; not given: the model's, else 1.", into(config.temperature, 0, kInfinity),
       Change::refused},
      {group, "top-k", "", Kind::value, "K", "",
       "Draw from the K most likely tokens; 0 or -1 is all of them.", into(config.top_k, -1),
       Change::refused},
      {group, "top-p", "", Kind::value, "P", "",
       "Draw from the most likely tokens that together have probability P.",
       into(config.top_p, 0, 1), Change::refused},
      {group, "min-p", "", Kind::value, "P", "",
       "Drop tokens less likely than P times the likeliest.", into(config.min_p, 0, 1),
       Change::refused},
      {group, "repetition-penalty", "", Kind::value, "X", "",
       "Above 1 discourages tokens of the prompt and the output so far.",
       into(config.repetition_penalty, 0, kInfinity), Change::refused},
      {group, "presence-penalty", "", Kind::value, "X", "",
       "Subtracted from the logits of tokens that were generated.",
       into(config.presence_penalty, -2, 2), Change::refused},
      {group, "frequency-penalty", "", Kind::value, "X", "",
       "Subtracted from a token's logit as often as it was generated.",
       into(config.frequency_penalty, -2, 2), Change::refused},
      {group, "max-tokens", "", Kind::value, "N", "",
       "Most tokens to generate for a prompt; not given: the model's max_new_tokens, else 256.",
       into(config.max_tokens, 1), Change::refused},
      {group, "min-tokens", "", Kind::value, "N", "",
       "Generate at least N tokens before an end counts.", into(config.min_tokens, 0),
       Change::refused},
      {group, "stop", "", Kind::repeated, "TEXT", "",
       "End at this text; may be given several times.",
       [&config](const FlagValue& value) { config.stop.push_back(value.text()); }, Change::refused},
      {group, "stop-token-ids", "", Kind::value, "ID,ID,...", "", "End at these tokens.",
       [&config](const FlagValue& value) { config.stop_token_ids = value.integers(0); },
       Change::refused},
      {group, "include-stop-str-in-output", "", Kind::toggle, "", "",
       "Leave the stop text in the output.", into(config.include_stop_str_in_output),
       Change::refused},
      {group, "skip-special-tokens", "", Kind::toggle, "", "",
       "Leave special tokens out of the text; on, unless --skip-special-tokens=false.",
       into(config.skip_special_tokens), Change::refused},
      {group, "ignore-eos", "", Kind::toggle, "", "", "Go on after the model's end-of-text token.",
       into(config.ignore_eos), Change::refused},
      {group, "logprobs", "", Kind::value, "K", "",
       "Write the log probability of each token and of the K likeliest.",
       into(config.logprobs, 0, 20), Change::refused},
      {group, "n", "", Kind::value, "N", "", "Completions of each prompt.", into(config.n, 1, 1024),
       Change::refused},
      {group, "seed", "", Kind::value, "N", "0",
       "Of all random draws; the same seed gives the same tokens on every grid.",
       [&config](const FlagValue& value) { config.seed = value.unsigned_integer(); },
       Change::refused},
  };
}

std::vector<Flag> journal_flags(JournalConfig& config) {
  const std::string group =
      "Restart (finished prompts are kept in OUTPUT.spool until the result is there)";
  return {
      {group, "resume", "", Kind::toggle, "", "false",
       "Go on with what an earlier attempt left; begin when there is nothing; do nothing when the "
       "result is there. Refused when model, prompts or sampling differ.",
       into(config.resume), Change::free},
      {group, "deep", "", Kind::toggle, "", "false",
       "Tell models and prompts apart by every byte, not by sizes, headers and samples.",
       into(config.deep), Change::free},
      {group, "checkpoint-interval", "", Kind::value, "SECONDS", "5",
       "What is finished survives a crash of the machine after at most this long.",
       [&config](const FlagValue& value) {
         config.checkpoint_interval_seconds = value.real(0, FlagValue::longest_seconds);
       },
       Change::free},
  };
}

std::vector<Flag> stop_flags(StopConfig& config) {
  const std::string group = "Stopping";
  return {
      {group, "time-limit", "", Kind::value, "TIME", "",
       "Stop in good order before the job is so old, as 5400 or 01:30:00; 0: never. Not given: "
       "Slurm's limit, from SLURM_JOB_END_TIME where that is set.",
       [&config](const FlagValue& value) { config.time_limit_seconds = value.seconds(); },
       Change::free},
      {group, "grace-period", "", Kind::value, "SECONDS", "30",
       "For prompts that run when the job stops; then they are dropped.",
       [&config](const FlagValue& value) {
         config.grace_seconds = value.real(0, FlagValue::longest_seconds);
       },
       Change::free},
      {group, "watchdog", "", Kind::value, "SECONDS", "300",
       "End the job when no rank gets on for so long.",
       [&config](const FlagValue& value) {
         config.watchdog_seconds = value.real(1, FlagValue::longest_seconds);
       },
       Change::free},
  };
}

std::vector<Flag> log_flags(LogConfig& config) {
  const std::string group = "Log";
  return {
      {group, "progress-interval", "", Kind::value, "SECONDS", "10",
       "Between progress lines when the log is no terminal; 0 for none.",
       [&config](const FlagValue& value) {
         config.progress_interval_seconds = value.real(0, FlagValue::longest_seconds);
       },
       Change::free},
      {group, "log-level", "", Kind::value, "debug|info|warning|error", "info",
       "Least important message to show; progress lines are info.",
       [&config](const FlagValue& value) {
         config.level = static_cast<LogLevel>(value.word({"debug", "info", "warning", "error"}));
       },
       Change::free},
      {group, "log-prompts", "", Kind::toggle, "", "false",
       "Also log each prompt and its answers, cut to 500 bytes; without it no text of either is "
       "logged.",
       into(config.prompts), Change::free},
  };
}

void append(std::vector<Flag>& flags, std::vector<Flag> more) {
  std::move(more.begin(), more.end(), std::back_inserter(flags));
}

}  // namespace

std::vector<Flag> model_flags(ModelConfig& config) {
  const std::string group = "Model";
  // vLLM's words.
  const auto into_dtype = [](std::optional<DType>& field, bool fp8) {
    return [&field, fp8](const FlagValue& value) {
      const std::size_t word =
          fp8 ? value.word(
                    {"auto", "float32", "bfloat16", "float16", "float", "half", "fp8", "fp8_e4m3"})
              : value.word({"auto", "float32", "bfloat16", "float16", "float", "half"});
      field.reset();
      if (word > 0) field = parse_dtype(value.text());
    };
  };
  return {
      {group, "model", "", Kind::value, "MODEL", "",
       "Checkpoint: a folder, a .gguf file, or org/name in the Hugging Face cache.",
       into(config.model), Change::files},
      {group, "tokenizer", "", Kind::value, "PATH", "",
       "Take the tokenizer from this folder or file instead of the model's.",
       into(config.tokenizer), Change::files},
      {group, "load-format", "", Kind::value, "FORMAT", "auto",
       "auto, safetensors, gguf, or dummy: made-up weights from the configuration alone.",
       [&config](const FlagValue& value) {
         config.load_format =
             static_cast<LoadFormat>(value.word({"auto", "safetensors", "gguf", "dummy"}));
       },
       Change::refused},
      {group, "load-strategy", "", Kind::value, "read|broadcast|auto", "auto",
       "Each rank reads its own weights, or each byte is read by one rank and sent to those that "
       "need it; auto: broadcast on a network file system of several hosts.",
       [&config](const FlagValue& value) {
         constexpr LoadStrategy strategies[] = {LoadStrategy::read, LoadStrategy::broadcast,
                                                LoadStrategy::automatic};
         config.load_strategy = strategies[value.word({"read", "broadcast", "auto"})];
       },
       Change::free},
      {group, "dtype", "", Kind::value, "DTYPE", "auto",
       "Of the weights: auto (the checkpoint's), float32, bfloat16 or float16.",
       into_dtype(config.dtype, false), Change::refused},
      {group, "quantization", "", Kind::value, "none|fp8", "none",
       "fp8: quantize the layers' matrices at load, and their inputs as they come. Checkpoints "
       "that are in fp8 need no flag.",
       [&config](const FlagValue& value) {
         config.quantization = static_cast<Quantization>(value.word({"none", "fp8"}));
       },
       Change::refused},
      {group, "kv-cache-dtype", "", Kind::value, "DTYPE", "auto",
       "auto, float32, bfloat16, float16 or fp8.", into_dtype(config.kv_cache_dtype, true),
       Change::refused},
      {group, "max-model-len", "", Kind::value, "N", "",
       "Longest prompt and output together, in tokens, as 4096 or 32k; not given: the model's.",
       [&config](const FlagValue& value) { config.max_model_len = value.integer(2, kMaxInt); },
       Change::refused},
  };
}

std::vector<Flag> grid_flags(GridConfig& config) {
  const std::string group = "Grid (ranks = data x pipeline x tensor; what is not given is chosen)";
  return {
      {group, "tensor-parallel-size", "tp", Kind::value, "N", "", "Ranks that share each layer.",
       into(config.tensor_parallel_size, 1), Change::free},
      {group, "pipeline-parallel-size", "pp", Kind::value, "N", "",
       "Stages that the layers are split over.", into(config.pipeline_parallel_size, 1),
       Change::free},
      {group, "data-parallel-size", "dp", Kind::value, "N", "", "Replicas that share the prompts.",
       into(config.data_parallel_size, 1), Change::free},
      {group, "pipeline-partition", "", Kind::value, "N,N,...", "",
       "Layers of each stage, as 8,8,7,7; not given: split by cost.",
       [&config](const FlagValue& value) { config.pipeline_partition = value.integers(1); },
       Change::free},
  };
}

std::vector<Flag> link_flags(LinkConfig& config) {
  const std::string group = "Links";
  return {
      {group, "require-transport", "", Kind::value, "NAME,NAME,...", "",
       "Refuse to start on slower links: ib or gdrdma between hosts, p2p or nvlink in tensor "
       "groups.",
       [&config](const FlagValue& value) {
         for (const FlagValue& part : value.parts()) {
           config.required.push_back(
               static_cast<RequiredTransport>(part.word({"ib", "gdrdma", "p2p", "nvlink"})));
         }
       },
       Change::free},
  };
}

std::vector<Flag> engine_flags(EngineConfig& config) {
  const std::string group = "Engine";
  return {
      {group, "device", "", Kind::value, "auto|cpu|cuda", "auto",
       "Where to run; auto takes CUDA when this build and this host have it.",
       [&config](const FlagValue& value) {
         config.device = static_cast<DeviceChoice>(value.word({"auto", "cpu", "cuda"}));
       },
       Change::free},
      {group, "max-num-seqs", "", Kind::value, "N", "",
       "Sequences that a replica runs at the same time. Not given: 1024 on GPUs, 256 on CPUs, and "
       "no more than a step has tokens.",
       into(config.max_num_seqs, 1, 1 << 20), Change::free},
      {group, "max-num-batched-tokens", "", Kind::value, "N", "",
       "Tokens in one step, prompts and outputs together. Not given: 8192 on GPUs, 2048 on CPUs, "
       "and one for each sequence at least.",
       into(config.max_num_batched_tokens, 1, 1 << 24), Change::free},
      {group, "block-size", "", Kind::value, "N", "16", "Tokens in one block of the KV cache.",
       into(config.block_size, 1, 1024), Change::free},
      {group, "kv-cache-memory-bytes", "", Kind::value, "SIZE", "",
       "KV cache of one rank, as 4GiB. Not given: on CPUs what the sequences can use, within the "
       "rank's share of 80% of the host's free memory; on GPUs what --gpu-memory-utilization "
       "leaves.",
       [&config](const FlagValue& value) { config.kv_cache_memory_bytes = value.bytes(); },
       Change::free},
      {group, "gpu-memory-utilization", "", Kind::value, "FRACTION", "0.92",
       "Part of each GPU's memory that the run may use.",
       [&config](const FlagValue& value) { config.gpu_memory_utilization = value.real(0.01, 1); },
       Change::free},
      {group, "nvls", "", Kind::toggle, "", "",
       "Let NCCL use NVLink multicast (NVLS). Off, because a job that dies while it is in use can "
       "put a host's GPUs out of service.",
       into(config.nvls), Change::free},
  };
}

std::vector<Flag> run_flags(RunConfig& config) {
  std::vector<Flag> flags = model_flags(config.model);
  append(flags, input_flags(config.input));
  append(flags, output_flags(config.output));
  append(flags, grid_flags(config.grid));
  append(flags, link_flags(config.links));
  append(flags, engine_flags(config.engine));
  append(flags, sampling_flags(config.sampling));
  append(flags, journal_flags(config.journal));
  append(flags, stop_flags(config.stop));
  append(flags, log_flags(config.log));
  return flags;
}

}  // namespace millrace
