#include "core/job/job_fingerprint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>
#include <utility>

#include "comm/agree.hpp"
#include "core/io/json_lines.hpp"
#include "core/io/prompt_line.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

struct NamedFile {
  std::string name;
  fs::path path;
};

// The small files of a model's folder that are read.
constexpr const char* text_files[] = {"config.json",
                                      "generation_config.json",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "chat_template.jinja",
                                      "special_tokens_map.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "model.safetensors.index.json"};

void add_text_files(const fs::path& folder, const std::string& prefix,
                    std::vector<NamedFile>& files) {
  for (const char* name : text_files) {
    if (fs::is_regular_file(folder / name)) {
      files.push_back({prefix + name, folder / name});
    }
  }
}

// The large ones; none with made-up weights.
std::vector<NamedFile> weight_files(const RunConfig& config, const ModelFiles& model) {
  std::vector<NamedFile> files;
  if (config.model.load_format == LoadFormat::dummy) {
    return files;
  }
  if (model.is_gguf()) {
    return {{model.gguf.filename().string(), model.gguf}};
  }
  for (const auto& entry : fs::directory_iterator(model.folder)) {
    if (entry.path().extension() == ".safetensors") {
      files.push_back({entry.path().filename().string(), entry.path()});
    }
  }
  std::ranges::sort(files, {}, &NamedFile::name);
  return files;
}

std::vector<NamedFile> sampled_files(const RunConfig& config, const ModelFiles& model) {
  std::vector<NamedFile> files = weight_files(config, model);
  if (!model.is_gguf()) {
    add_text_files(model.folder, "", files);
  }
  std::error_code error;
  if (const fs::path tokenizer = config.model.tokenizer; fs::is_directory(tokenizer, error)) {
    add_text_files(tokenizer, "--tokenizer ", files);
  } else if (!tokenizer.empty()) {
    if (!fs::is_regular_file(tokenizer, error)) {
      throw UserError("--tokenizer: there is no file or folder '{}'", tokenizer.string());
    }
    files.push_back({"--tokenizer", tokenizer});
  }
  if (const fs::path chat_template = config.input.chat_template; !chat_template.empty()) {
    if (!fs::is_regular_file(chat_template, error)) {
      throw UserError("--chat-template: there is no file '{}'", chat_template.string());
    }
    files.push_back({"--chat-template", chat_template});
  }
  files.push_back({"--prompts", config.input.prompts});
  return files;
}

std::string quoted(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) {
    all += all.empty() ? "" : ", ";
    append_json_string(all, text);
  }
  return all.empty() ? "none" : all;
}

// The value that took effect of each flag that decides tokens, by the flag's name.
std::map<std::string, std::string, std::less<>> effective_values(const RunConfig& config,
                                                                 const JobPlan& plan) {
  const PlanOptions& options = plan.options;
  const SamplingParams& sampling = plan.sampling;
  const auto text = [](const auto& value) { return fmt::format("{}", value); };
  return {
      {"load-format", config.model.load_format == LoadFormat::dummy ? "dummy" : "a checkpoint's"},
      {"dtype", std::string(name(options.dtype))},
      {"quantization", config.model.quantization == Quantization::fp8 ? "fp8" : "none"},
      {"kv-cache-dtype", std::string(name(options.cache_dtype))},
      {"max-model-len", text(options.max_model_len)},
      {"seed", text(config.sampling.seed)},
      {"temperature", text(sampling.temperature)},
      {"top-k", text(sampling.top_k)},
      {"top-p", text(sampling.top_p)},
      {"min-p", text(sampling.min_p)},
      {"repetition-penalty", text(sampling.repetition_penalty)},
      {"presence-penalty", text(sampling.presence_penalty)},
      {"frequency-penalty", text(sampling.frequency_penalty)},
      {"max-tokens", text(sampling.max_tokens)},
      {"min-tokens", text(sampling.min_tokens)},
      {"stop", quoted(sampling.stop)},
      {"stop-token-ids", text(sampling.stop_token_ids)},
      {"ignore-eos", text(sampling.ignore_eos)},
      {"include-stop-str-in-output", text(sampling.include_stop_str_in_output)},
      {"skip-special-tokens", text(sampling.skip_special_tokens)},
      {"logprobs", sampling.logprobs < 0 ? "none" : text(sampling.logprobs)},
      {"n", text(sampling.n)},
  };
}

// Every byte of `path`, read by all ranks in turns. The size is rank 0's.
std::string digest_file(const Comm& world, const fs::path& path, const StopRequest& stop) {
  std::int64_t size = 0;
  std::vector<std::uint64_t> mine;
  agree(world, [&] { size = static_cast<std::int64_t>(fs::file_size(path)); });
  if (world.all_reduce_min(size) != world.all_reduce_max(size)) {
    throw UserError("--deep: '{}' has not the same size on all hosts", path.string());
  }
  const std::int64_t pieces = (size + digest_piece_bytes - 1) / digest_piece_bytes;
  agree(world, [&] {
    for (std::int64_t piece = world.rank(); piece < pieces; piece += world.size()) {
      stop.throw_if_made();
      mine.push_back(digest_piece(path, piece));
    }
  });
  const auto shares = world.gather_bytes(std::as_bytes(std::span(mine)), 0);
  std::vector<std::uint64_t> digests(shares.empty() ? 0 : static_cast<std::size_t>(pieces));
  for (std::size_t piece = 0; piece < digests.size(); ++piece) {
    const Bytes& share = shares[piece % shares.size()];
    std::memcpy(&digests[piece], share.data() + piece / shares.size() * sizeof(std::uint64_t),
                sizeof(std::uint64_t));
  }
  return describe_pieces(size, digests);
}

}  // namespace

std::vector<FingerprintPart> compared_settings(const RunConfig& config, const JobPlan& plan) {
  const bool is_text = prompt_format(config.input.prompts) == PromptFormat::text;
  const DType activations = plan.device.is_cpu() ? DType::f32 : plan.options.dtype;
  std::vector<FingerprintPart> parts = {{"prompt format", is_text ? "text" : "JSON Lines"},
                                        {"dtype of activations", std::string(name(activations))}};
  const auto values = effective_values(config, plan);
  RunConfig unused;
  for (const Flag& flag : run_flags(unused)) {
    const auto value = values.find(flag.name);
    if ((flag.change == Flag::Change::refused) != (value != values.end())) {
      throw std::logic_error(fmt::format(
          "--{} and its place in the fingerprint of a job do not fit together", flag.name));
    }
    if (value != values.end()) parts.push_back({"--" + flag.name, value->second});
  }
  return parts;
}

Fingerprint fingerprint_job(const Comm& world, const RunConfig& config, const JobPlan& plan,
                            const StopRequest& stop) {
  Fingerprint fingerprint;
  agree(world, [&] {
    if (world.rank() == 0) {
      for (const NamedFile& file : sampled_files(config, plan.files)) {
        fingerprint.parts.push_back({file.name, sample_file(file.path)});
      }
      std::ranges::move(compared_settings(config, plan), std::back_inserter(fingerprint.parts));
    }
  });
  if (config.journal.deep) {
    std::vector<NamedFile> files = agree(world, [&] { return weight_files(config, plan.files); });
    files.push_back({"--prompts", config.input.prompts});
    if (world.all_reduce_min(std::ssize(files)) != world.all_reduce_max(std::ssize(files))) {
      throw UserError("--deep: the model's folder holds not the same files on all hosts");
    }
    for (const NamedFile& file : files) {
      fingerprint.every_byte.push_back(
          {"every byte of " + file.name, digest_file(world, file.path, stop)});
    }
  }
  return fingerprint;
}

}  // namespace millrace
