#include "core/weights/safetensors.hpp"

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
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
  void add(std::shared_ptr<CheckpointFile> file, Wanted&& wanted) {
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
  std::vector<std::shared_ptr<CheckpointFile>> files_;
  std::map<std::string, Entry, std::less<>> entries_;
};

// weight_map: tensor name -> file name.
Json read_weight_map(const CheckpointFile& file) {
  constexpr std::int64_t largest = std::int64_t{100} << 20;
  const std::string path = file.path().string();
  if (file.bytes() > largest) {
    throw UserError("{}: {} bytes, the limit is {}", path, file.bytes(), largest);
  }
  std::string text(static_cast<std::size_t>(file.bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  const Json index = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw UserError("{}: holds no weight_map", path);
  }
  return index["weight_map"];
}

std::unique_ptr<Checkpoint> open_sharded(CheckpointFiles& files) {
  const fs::path index = files.folder() / index_name;
  const Json weight_map = read_weight_map(*files.open(std::string(index_name)));
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
    checkpoint->add(files.open(shard), [&](const std::string& name) {
      const auto at = shard_of.find(name);
      const bool is_here = at != shard_of.end() && at->second == shard;
      found += is_here ? 1 : 0;
      return is_here;
    });
    if (found != expected) {
      throw UserError("{}: holds {} of the {} tensors that {} expects in it",
                      (files.folder() / shard).string(), found, expected, index_name);
    }
  }
  return checkpoint;
}

// The only safetensors file of a folder that has neither of the usual names.
std::string only_file(const CheckpointFiles& files) {
  const std::vector<std::string> found = files.names(".safetensors");
  if (found.size() == 1) return found.front();
  if (found.empty() &&
      (files.has("pytorch_model.bin") || files.has("pytorch_model.bin.index.json"))) {
    throw UserError(
        "{}: holds pytorch_model.bin, a pickle, which is not read: convert it to safetensors",
        files.folder().string());
  }
  throw UserError("{}: holds {} .safetensors files and neither model.safetensors nor {}",
                  files.folder().string(), found.size(), index_name);
}

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors(CheckpointFiles& files) {
  if (files.has(std::string(index_name))) return open_sharded(files);
  const std::string name = files.has("model.safetensors") ? "model.safetensors" : only_file(files);
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>((files.folder() / name).string());
  checkpoint->add(files.open(name), [](const std::string&) { return true; });
  return checkpoint;
}

}  // namespace millrace
