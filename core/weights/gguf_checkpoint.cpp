#include "core/weights/gguf_checkpoint.hpp"

#include <map>
#include <utility>

#include "core/weights/checkpoint_file.hpp"
#include "core/weights/file_tensor.hpp"
#include "core/weights/gguf.hpp"

namespace millrace {
namespace {

struct GgufEntry : CheckpointTensor {
  std::int64_t offset = 0;
};

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::shared_ptr<CheckpointFile> file) : file_(std::move(file)) {
    for (auto& [name, tensor] : read_gguf_header(*file_).tensors) {
      GgufEntry entry{{name, tensor.type, tensor.shape}, tensor.offset};
      entries_.emplace(name, std::move(entry));
    }
  }

  std::string describe() const override { return file_->path().string(); }

  const CheckpointTensor* find(std::string_view tensor) const override {
    const auto at = entries_.find(tensor);
    return at == entries_.end() ? nullptr : &at->second;
  }

  void read(const CheckpointTensor& tensor, Range rows, Range columns,
            const TensorView& out) override {
    const auto& entry = static_cast<const GgufEntry&>(tensor);
    bytes_read_ += read_rectangle(*file_, entry.offset, tensor, rows, columns, out);
  }

 private:
  std::shared_ptr<CheckpointFile> file_;
  std::map<std::string, GgufEntry, std::less<>> entries_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf(CheckpointFiles& files, const std::string& name) {
  return std::make_unique<GgufCheckpoint>(files.open(name));
}

}  // namespace millrace
