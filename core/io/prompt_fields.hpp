// The fields of one line of a .jsonl prompt file (listed in prompt_line.hpp), as the line says
// them: JSON read and types checked, nothing tokenized.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/batch/sampling_params.hpp"

namespace millrace {

// The views are valid until the reader reads the next line.
struct PromptFields {
  std::string id;
  std::optional<std::string_view> text;
  std::optional<std::vector<std::int32_t>> token_ids;
  std::optional<std::string_view> messages;  // JSON
  std::string_view template_variables;       // JSON
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
  SamplingParams sampling;
};

class PromptFieldReader {
 public:
  PromptFieldReader();
  ~PromptFieldReader();
  PromptFieldReader(PromptFieldReader&&) noexcept;

  // Overwrites the fields that the line gives. Throws UserError naming what is wrong; the fields
  // read until then are set.
  void read(std::string_view line, PromptFields& fields);
  // Gives back memory after a giant line: a parser's is several times its longest line.
  void shrink();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Throws UserError naming the first byte of the line that is not UTF-8.
void require_utf8(std::string_view line);

}  // namespace millrace
