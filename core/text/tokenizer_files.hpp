// What the readers of tokenizer files share.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/merge_table.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/tokenizer_parts.hpp"

namespace millrace::text {

class JsonValue;  // core/text/json_reader.hpp

// A whole file. UserError: it cannot be read.
std::string read_text_file(const std::filesystem::path& path);

// bos_token, eos_token, ... of the text of a tokenizer_config.json or special_tokens_map.json: each
// a string, or an object with the string as `content`.
std::map<std::string, std::string> read_special_tokens(std::string_view json,
                                                       std::string_view name);

// The `added_tokens` of a tokenizer.json with the ids that `tokenizers` gives them.
std::vector<AddedToken> read_added_tokens(const JsonValue& list, const Vocabulary& vocabulary);

// The byte-level tokenizer of a folder with `vocab.json` and `merges.txt` (GPT-2, OPT), whose
// special tokens and options stand in the text of its tokenizer_config.json.
Tokenizer load_vocab_and_merges(const std::filesystem::path& folder, std::string_view config_json);

// UserError: a token that is not in the vocabulary; `place` is where the merge stands.
void add_merge(MergeTable& merges, const Vocabulary& vocabulary, std::string_view left,
               std::string_view right, std::string_view continuing_prefix, uint32_t rank,
               std::string_view place);

}  // namespace millrace::text
