// A model folder's tokenizer files.
#include "core/text/tokenizer_files.hpp"

#include <fstream>
#include <iterator>

#include "core/text/json_reader.hpp"
#include "core/text/tokenizer.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace text {

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file.is_open() || file.bad()) throw UserError("cannot read {}", path.string());
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
    throw UserError("no tokenizer.json, nor vocab.json and merges.txt, in {}", folder.string());
  }
  return parse_tokenizer(text::read_text_file(tokenizer_json), config, tokenizer_json.string());
}

}  // namespace millrace
