// A model folder's tokenizer files.
#include "core/text/tokenizer_files.hpp"

#include <fstream>
#include <system_error>

#include "core/text/json_reader.hpp"
#include "core/text/tokenizer.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace text {

std::string read_text_file(const std::filesystem::path& path) {
  constexpr std::uintmax_t largest = std::uintmax_t{512} << 20;
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (!error && bytes > largest) {
    throw UserError("{}: {} bytes, the limit is {}", path.string(), bytes, largest);
  }
  std::ifstream file(path, std::ios::binary);
  if (error || !file) throw UserError("cannot read {}", path.string());
  std::string text(static_cast<std::size_t>(bytes), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));  // it may have become shorter
  if (file.bad()) throw UserError("cannot read {}", path.string());
  return text;
}

std::map<std::string, std::string> read_special_tokens(std::string_view json,
                                                       std::string_view name) {
  std::map<std::string, std::string> tokens;
  const JsonDocument document(json, name);
  const JsonValue root = document.root();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token",
                          "cls_token", "mask_token"}) {
    const auto value = root.find(key);
    if (!value) continue;
    tokens[key] = value->is_object() ? value->at("content").string() : value->string();
  }
  return tokens;
}

}  // namespace text

Tokenizer load_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path tokenizer_json = folder / "tokenizer.json";
  std::string config;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (config.empty() && std::filesystem::exists(folder / name)) {
      config = text::read_text_file(folder / name);
    }
  }
  if (!std::filesystem::exists(tokenizer_json)) {
    if (std::filesystem::exists(folder / "vocab.json") &&
        std::filesystem::exists(folder / "merges.txt")) {
      return text::load_vocab_and_merges(folder, config);
    }
    if (std::filesystem::exists(folder / "tokenizer.model")) {
      throw UserError(
          "{}: holds tokenizer.model, which is not read: convert it to a tokenizer.json "
          "(AutoTokenizer.from_pretrained(...).save_pretrained(...))",
          folder.string());
    }
    throw UserError("no tokenizer.json, nor vocab.json and merges.txt, in {}", folder.string());
  }
  return parse_tokenizer(text::read_text_file(tokenizer_json), config, tokenizer_json.string());
}

}  // namespace millrace
