// The files that GPT-2's tokenizer was published in, before there was a tokenizer.json.
#include <algorithm>
#include <set>

#include "core/text/json_reader.hpp"
#include "core/text/tokenizer_files.hpp"
#include "core/text/tokenizer_parts.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

MergeTable read_merges(std::string_view lines, const Vocabulary& vocabulary,
                       std::string_view name) {
  MergeTable merges;
  uint32_t rank = 0;
  std::size_t number = 0;
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || !is_valid_utf8(line)) {
      throw UserError("{}: line {} is not two tokens", name, number);
    }
    add_merge(merges, vocabulary, line.substr(0, space), line.substr(space + 1), "", rank++,
              fmt::format("{}: line {}", name, number));
  }
  return merges;
}

}  // namespace

Tokenizer load_vocab_and_merges(const std::filesystem::path& folder, std::string_view config_json) {
  const std::string vocab_name = (folder / "vocab.json").string();
  const std::string vocab_json = read_text_file(vocab_name);
  const JsonDocument document(vocab_json, vocab_name);
  Vocabulary vocabulary;
  document.root().for_each_member([&](std::string_view name, simdjson::dom::element id) {
    vocabulary.add(name, JsonValue(id, vocab_name).integer(), vocab_name);
  });
  const std::string merges_name = (folder / "merges.txt").string();
  MergeTable merges = read_merges(read_text_file(merges_name), vocabulary, merges_name);

  const std::string config_text(config_json.empty() ? "{}" : config_json);
  const std::string config_name = (folder / "tokenizer_config.json").string();
  const JsonDocument config(config_text, config_name);
  const auto special = read_special_tokens(config_text, config_name);
  auto parts = std::make_unique<TokenizerParts>();
  parts->pre_tokenizer.push_back(ByteLevel{
      .add_prefix_space = config.root().boolean("add_prefix_space", false), .use_regex = true});
  parts->decoder.push_back(ByteLevelDecoder{});
  std::vector<AddedToken> added;
  std::set<std::string> seen;
  for (const auto& [role, name] : special) {
    const int32_t id = vocabulary.ids.find(name);
    if (id < 0) {
      throw UserError("{}: {} \"{}\" is not in the vocabulary", config_name, role, printable(name));
    }
    if (role == "bos_token") parts->bos = id;
    if (role == "eos_token") parts->eos = id;
    if (!seen.insert(name).second) continue;
    AddedToken token{.content = name, .id = id};
    token.special = true;
    added.push_back(std::move(token));
  }
  adopt_vocabulary(*parts, vocabulary, added);
  parts->model.emplace(BpeSettings{}, std::move(vocabulary.ids), vocabulary.names,
                       std::move(merges));
  if (parts->bos && config.root().boolean("add_bos_token", false)) {
    parts->frame.insert(parts->frame.begin(), *parts->bos);
  }
  return Tokenizer(std::move(parts));
}

}  // namespace millrace::text
