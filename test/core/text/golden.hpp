// Reads the golden set that test/data/make_tokenizer_golden.py writes; the format is described
// there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::text {

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(MILLRACE_TEST_DATA) / "tokenizers";
}

inline std::string file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class VarintReader {
 public:
  explicit VarintReader(const std::filesystem::path& path) : bytes_(file_bytes(path)) {}

  bool at_end() const { return at_ == bytes_.size(); }
  std::size_t number() {
    std::size_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.at(at_++));
      value |= static_cast<std::size_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }
  std::string text() {
    const std::size_t size = number();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

// What `tokenizers` makes of one string.
struct GoldenRecord {
  std::vector<int32_t> ids;        // with special tokens around
  std::vector<int32_t> plain_ids;  // without
  std::string kept, skipped;       // `ids` decoded with special tokens, and without
};

inline std::vector<std::string> golden_strings() {
  VarintReader reader(golden_folder() / "strings.bin");
  std::vector<std::string> strings;
  while (!reader.at_end()) strings.push_back(reader.text());
  return strings;
}

// `valid`: the strings as Hugging Face saw them, ill-formed UTF-8 replaced.
inline std::vector<GoldenRecord> golden_records(const std::string& name,
                                                const std::vector<std::string>& valid) {
  VarintReader reader(golden_folder() / (name + ".golden"));
  std::vector<GoldenRecord> records(valid.size());
  for (std::size_t i = 0; i < valid.size(); ++i) {
    GoldenRecord& record = records[i];
    record.ids.resize(reader.number());
    for (int32_t& id : record.ids) id = static_cast<int32_t>(reader.number());
    const auto front = static_cast<std::ptrdiff_t>(reader.number());
    const auto back = static_cast<std::ptrdiff_t>(reader.number());
    record.plain_ids.assign(record.ids.begin() + front, record.ids.end() - back);
    const auto text = [&] {
      switch (reader.number()) {
        case 0:
          return valid[i];
        case 1: {
          const std::string before = reader.text();
          return before + valid[i] + reader.text();
        }
        case 2:
          return reader.text();
        default:
          return record.kept;
      }
    };
    record.kept = text();
    record.skipped = text();
  }
  if (!reader.at_end()) throw std::runtime_error(name + ".golden is longer than its strings");
  return records;
}

}  // namespace millrace::text
