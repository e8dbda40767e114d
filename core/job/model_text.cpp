#include "core/job/model_text.hpp"

#include "core/text/gguf_tokenizer.hpp"
#include "core/weights/gguf.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::optional<std::int32_t> id_of(const GgufHeader& header, std::string_view key) {
  const auto id = header.find_integer(key);
  return id ? std::optional(static_cast<std::int32_t>(*id)) : std::nullopt;
}

GgufTokenizerData tokenizer_data(const GgufHeader& header) {
  GgufTokenizerData data;
  const auto take_text = [&](std::string_view key, std::string& text) {
    if (const std::string* found = header.find_string(key)) {
      text = *found;
    }
  };
  const auto take_texts = [&](std::string_view key, std::vector<std::string>& texts) {
    if (const auto* found = header.find_strings(key)) {
      texts = *found;
    }
  };
  take_text("tokenizer.ggml.model", data.model);
  take_text("tokenizer.ggml.pre", data.pre);
  take_text("tokenizer.chat_template", data.chat_template);
  take_texts("tokenizer.ggml.tokens", data.tokens);
  take_texts("tokenizer.ggml.merges", data.merges);
  if (const auto* scores = header.find_numbers("tokenizer.ggml.scores")) {
    data.scores.assign(scores->begin(), scores->end());
  }
  if (const auto* types = header.find_integers("tokenizer.ggml.token_type")) {
    data.token_types.assign(types->begin(), types->end());
  }
  data.bos_id = id_of(header, "tokenizer.ggml.bos_token_id");
  data.eos_id = id_of(header, "tokenizer.ggml.eos_token_id");
  data.unk_id = id_of(header, "tokenizer.ggml.unknown_token_id");
  data.pad_id = id_of(header, "tokenizer.ggml.padding_token_id");
  data.add_bos = header.find_bool("tokenizer.ggml.add_bos_token");
  data.add_eos = header.find_bool("tokenizer.ggml.add_eos_token");
  data.add_space_prefix = header.find_bool("tokenizer.ggml.add_space_prefix");
  return data;
}

}  // namespace

ModelText load_model_text(const ModelFiles& files, const std::string& tokenizer,
                          const std::string& chat_template) {
  fs::path place = files.is_gguf() ? files.gguf : files.folder;
  if (!tokenizer.empty()) {
    place = tokenizer;
    if (!fs::exists(place)) {
      throw UserError("--tokenizer: there is no '{}'", tokenizer);
    }
  }
  const auto with_chat = [](Tokenizer&& ready, std::optional<ChatTemplateSource> source) {
    ModelText text{std::move(ready), std::nullopt};
    if (source) {
      text.chat.emplace(std::move(*source));
    }
    return text;
  };
  if (place.extension() == ".gguf") {
    const GgufTokenizerData data = tokenizer_data(read_gguf_header(place));
    return with_chat(make_tokenizer(data), load_chat_template(data, chat_template));
  }
  const fs::path folder = fs::is_directory(place) ? place : place.parent_path();
  return with_chat(load_tokenizer(folder), load_chat_template(folder, chat_template));
}

}  // namespace millrace
