#include "core/weights/safetensors.hpp"

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "core/weights/file_tensor.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

using Json = nlohmann::json;

constexpr std::string_view index_name = "model.safetensors.index.json";

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  explicit SafetensorsCheckpoint(std::string source) : source_(std::move(source)) {}

  // All tensors of the file, or those for which `wanted` says so.
  template <typename Wanted>
  void add(const fs::path& path, Wanted&& wanted) {
    auto file = std::make_unique<CheckpointFile>(path);
    for (auto& [name, tensor] : read_safetensors_header(*file)) {
      if (wanted(name)) entries_.emplace(name, Entry{std::move(tensor), file.get()});
    }
    files_.push_back(std::move(file));
  }

  std::string describe() const override { return source_; }

  const CheckpointTensor* find(std::string_view name) const override {
    const auto at = entries_.find(name);
    if (at == entries_.end()) return nullptr;
    const Entry& entry = at->second;
    if (!entry.tensor.is_supported) {
      throw UserError(
          "{}: tensor '{}' is stored as {}, which is not supported (F32, F16, BF16 and F8_E4M3 "
          "are)",
          entry.file->path().string(), printable(name), entry.tensor.dtype);
    }
    return &entry.tensor;
  }

  void read(const CheckpointTensor& tensor, Range rows, Range columns,
            const TensorView& out) override {
    const Entry& entry = entries_.find(tensor.name)->second;
    bytes_read_ += read_rectangle(*entry.file, entry.tensor.offset, tensor, rows, columns, out);
  }

 private:
  struct Entry {
    SafetensorsTensor tensor;
    const CheckpointFile* file;
  };

  std::string source_;
  std::vector<std::unique_ptr<CheckpointFile>> files_;
  std::map<std::string, Entry, std::less<>> entries_;
};

// weight_map: tensor name -> file name.
Json read_weight_map(const fs::path& path) {
  constexpr std::uintmax_t largest = std::uintmax_t{100} << 20;
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (!file || error) throw UserError("{}: cannot be read", path.string());
  if (bytes > largest) {
    throw UserError("{}: {} bytes, the limit is {}", path.string(), bytes, largest);
  }
  std::ostringstream text;
  text << file.rdbuf();
  const Json index = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw UserError("{}: holds no weight_map", path.string());
  }
  return index["weight_map"];
}

std::unique_ptr<Checkpoint> open_sharded(const fs::path& folder) {
  const fs::path index = folder / index_name;
  const Json weight_map = read_weight_map(index);
  std::map<std::string, std::string> shard_of;
  std::map<std::string, std::int64_t> shards;  // and how many tensors they should have
  for (const auto& [name, value] : weight_map.items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      throw UserError("{}: tensor '{}' lies in {}, which is no file of the model's folder",
                      index.string(), printable(name), printable(value.dump(-1, ' ', true)));
    }
    shard_of[name] = shard;
    ++shards[shard];
  }
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(index.string());
  for (const auto& [shard, expected] : shards) {
    std::int64_t found = 0;
    checkpoint->add(folder / shard, [&](const std::string& name) {
      const auto at = shard_of.find(name);
      const bool is_here = at != shard_of.end() && at->second == shard;
      found += is_here ? 1 : 0;
      return is_here;
    });
    if (found != expected) {
      throw UserError("{}: holds {} of the {} tensors that {} expects in it",
                      (folder / shard).string(), found, expected, index_name);
    }
  }
  return checkpoint;
}

// The only safetensors file of a folder that has neither of the usual names.
fs::path only_file(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  if (files.size() == 1) return files.front();
  if (files.empty() && (fs::exists(folder / "pytorch_model.bin", error) ||
                        fs::exists(folder / "pytorch_model.bin.index.json", error))) {
    throw UserError(
        "{}: holds pytorch_model.bin, a pickle, which is not read: convert it to safetensors",
        folder.string());
  }
  throw UserError("{}: holds {} .safetensors files and neither model.safetensors nor {}",
                  folder.string(), files.size(), index_name);
}

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors(const fs::path& folder) {
  std::error_code error;
  if (fs::is_regular_file(folder / index_name, error)) return open_sharded(folder);
  fs::path path = folder / "model.safetensors";
  if (!fs::exists(path, error)) path = only_file(folder);
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(path.string());
  checkpoint->add(path, [](const std::string&) { return true; });
  return checkpoint;
}

}  // namespace millrace
