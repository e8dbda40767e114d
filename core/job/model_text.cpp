#include "core/job/model_text.hpp"

#include "core/io/posix_file.hpp"
#include "core/text/gguf_tokenizer.hpp"
#include "core/weights/gguf.hpp"
#include "core/weights/gguf_tokenizer_data.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

namespace fs = std::filesystem;

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
    const GgufTokenizerData data = read_gguf_tokenizer(read_gguf_header(place));
    return with_chat(make_tokenizer(data), load_chat_template(data, chat_template));
  }
  const bool is_file = !fs::is_directory(place);
  if (is_file && place.filename() != "tokenizer.json") {
    throw UserError("--tokenizer: '{}' is neither a folder, a tokenizer.json nor a .gguf file",
                    tokenizer);
  }
  const fs::path folder = is_file ? folder_of(place) : place;
  return with_chat(load_tokenizer(folder), load_chat_template(folder, chat_template));
}

}  // namespace millrace
