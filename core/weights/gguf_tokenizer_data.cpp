#include "core/weights/gguf_tokenizer_data.hpp"

#include <limits>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

std::int32_t narrow(const GgufHeader& header, std::string_view key, std::int64_t value) {
  if (value < std::numeric_limits<std::int32_t>::min() ||
      value > std::numeric_limits<std::int32_t>::max()) {
    throw UserError("{}: metadata key '{}' holds {}", header.path.string(), key, value);
  }
  return static_cast<std::int32_t>(value);
}

std::optional<std::int32_t> find_id(const GgufHeader& header, std::string_view key) {
  const std::optional<std::int64_t> id = header.find_integer(key);
  if (!id) return std::nullopt;
  return narrow(header, key, *id);
}

template <typename T>
const T& required(const GgufHeader& header, std::string_view key, const T* value) {
  if (value == nullptr) {
    throw UserError("{}: metadata key '{}' is missing", header.path.string(), key);
  }
  return *value;
}

}  // namespace

GgufTokenizerData read_gguf_tokenizer(const GgufHeader& header) {
  constexpr std::string_view model_key = "tokenizer.ggml.model";
  constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
  constexpr std::string_view types_key = "tokenizer.ggml.token_type";
  GgufTokenizerData data;
  data.model = required(header, model_key, header.find_string(model_key));
  data.tokens = required(header, tokens_key, header.find_strings(tokens_key));
  if (const auto* pre = header.find_string("tokenizer.ggml.pre")) data.pre = *pre;
  if (const auto* scores = header.find_numbers("tokenizer.ggml.scores")) {
    data.scores.assign(scores->begin(), scores->end());
  }
  if (const auto* types = header.find_integers(types_key)) {
    for (const std::int64_t type : *types) {
      data.token_types.push_back(narrow(header, types_key, type));
    }
  }
  if (const auto* merges = header.find_strings("tokenizer.ggml.merges")) data.merges = *merges;
  data.bos_id = find_id(header, "tokenizer.ggml.bos_token_id");
  data.eos_id = find_id(header, "tokenizer.ggml.eos_token_id");
  data.unk_id = find_id(header, "tokenizer.ggml.unknown_token_id");
  data.pad_id = find_id(header, "tokenizer.ggml.padding_token_id");
  data.add_bos = header.find_bool("tokenizer.ggml.add_bos_token");
  data.add_eos = header.find_bool("tokenizer.ggml.add_eos_token");
  data.add_space_prefix = header.find_bool("tokenizer.ggml.add_space_prefix");
  if (const auto* text = header.find_string("tokenizer.chat_template")) data.chat_template = *text;
  return data;
}

}  // namespace millrace
