// A model's config.json as families read it: typed fields, and errors that name the file, the field
// and the value. GGUF metadata is brought to the same words (gguf_model.cpp), so a family reads
// one format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

class Config {
 public:
  // `source` is the file that errors name, `values` a JSON object.
  Config(std::string source, const nlohmann::json& values);

  // Throws UserError when the file cannot be read or is not a JSON object.
  static Config read(const std::filesystem::path& path);

  const std::string& source() const { return source_; }

  // Present and not null.
  bool has(const char* field) const;

  // Present, null or not.
  bool states(const char* field) const;

  // How many fields there are.
  std::size_t fields() const;

  // Sizes: integers in [1, limit]. Without a default the field must be there.
  std::int64_t size(const char* field, std::int64_t limit) const;
  std::int64_t size_or(const char* field, std::int64_t limit, std::int64_t otherwise) const;
  double number(const char* field) const;
  double number_or(const char* field, double otherwise) const;
  bool flag_or(const char* field, bool otherwise) const;
  std::string text_or(const char* field, const std::string& otherwise) const;

  std::optional<double> find_number(const char* field) const;
  // A token id, or a list of them; empty when absent.
  std::vector<std::int32_t> token_ids(const char* field) const;
  // A list of strings; empty when absent.
  std::vector<std::string> texts(const char* field) const;
  std::optional<Config> section(const char* field) const;

  // Throws the UserError "<source>: <field> is <value>: <why>".
  [[noreturn]] void fail(const char* field, std::string_view why) const;

 private:
  const nlohmann::json* find(const char* field) const;

  std::string source_;
  std::string path_;  // of the section, "rope_scaling."
  std::shared_ptr<const nlohmann::json> values_;
};

}  // namespace millrace
