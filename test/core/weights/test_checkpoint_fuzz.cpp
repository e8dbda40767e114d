// Mutated checkpoints must be read or refused with a UserError: nothing else may be thrown, and the
// sanitizers of the cpu-asan preset watch the rest.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/weights/gguf_tokenizer_data.hpp"
#include "core/weights/loader.hpp"
#include "core/weights/safetensors.hpp"
#include "kernels/base/error.hpp"
#include "samples.hpp"
#include "test/fuzz/mutate.hpp"

namespace millrace {
namespace {

using test::bytes_of;
using test::safetensors;

std::string contents(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::filesystem::path fixture(const char* name) {
  return std::filesystem::path(MILLRACE_TEST_DATA "/models") / name;
}

// Calls `read` with mutations of `valid`; how many of them it accepted.
template <typename Read>
int accepted(const std::string& valid, const std::vector<std::string>& dictionary, Read&& read) {
  int count = 0;
  for (int run = 0; run < fuzz::runs(2'000); ++run) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(run), dictionary);
    const std::string bytes = mutator.mutate(valid);
    try {
      read(bytes);
      ++count;
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "run " << run;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "run " << run << ": " << error.what();
    }
  }
  return count;
}

// Reads every tensor of a checkpoint that can be read.
void read_all(Checkpoint& checkpoint, const std::vector<std::string>& names) {
  constexpr std::int64_t most = 1 << 20;
  for (const std::string& name : names) {
    const CheckpointTensor* tensor = checkpoint.find(name);
    if (tensor == nullptr || tensor->shape.empty() || tensor->shape.size() > 2) continue;
    const std::int64_t columns = tensor->shape.size() == 2 ? tensor->shape[1] : 1;
    if (tensor->shape[0] == 0 || columns == 0 || columns > most / tensor->shape[0]) continue;
    const Tensor out(DType::f32, Device::cpu(), {tensor->shape[0], columns});
    checkpoint.read(*tensor, {0, tensor->shape[0]}, {0, columns}, out);
  }
}

TEST(CheckpointFuzz, MutatedSafetensorsAreReadOrRefused) {
  const TemporaryFolder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
  const int read =
      accepted(safetensors(header, std::string(32, 'x')),
               {"F32", "F16", "[0,24]", "\"a\":", "{", "I64"}, [&](const std::string& bytes) {
                 folder.write("model.safetensors", bytes);
                 read_all(*open_checkpoint({folder.path(), {}}), {"a", "b"});
               });
  EXPECT_GT(read, 0);
}

TEST(CheckpointFuzz, MutatedShardIndexesAreReadOrRefused) {
  const TemporaryFolder folder;
  folder.write("a.safetensors",
               safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "abcd"));
  const int read = accepted(R"({"metadata":{"total_size":4},"weight_map":{"a":"a.safetensors"}})",
                            {"..", "/", "weight_map", "null"}, [&](const std::string& bytes) {
                              folder.write("model.safetensors.index.json", bytes);
                              open_checkpoint({folder.path(), {}});
                            });
  EXPECT_GT(read, 0);
}

TEST(CheckpointFuzz, MutatedGgufFilesAreLoadedOrRefused) {
  const TemporaryFolder folder;
  const std::string valid = contents(fixture("llama-gguf") / "model.gguf");
  // Only the header is worth mutating; tensors that lie beyond what is left are truncated files.
  const std::string header = valid.substr(0, 9760);
  const std::string data = valid.substr(9760);
  const int read = accepted(
      header, {"llama", "gpt2", "general.alignment", "blk.0.attn_q.weight", "llama.block_count"},
      [&](const std::string& bytes) {
        const auto path = folder.write("model.gguf", bytes + data);
        const ModelFiles files{folder.path(), path};
        read_gguf_tokenizer(read_gguf_header(path));
        const ModelDescription model = describe_model(files);
        check_partition(model.spec, {1, 1, 1});
        const auto checkpoint = open_checkpoint(files);
        load_weights(model, *checkpoint, partition(model.spec, {1, 1, 1}, {0, 0, 0}),
                     {.dtype = DType::f32, .device = Device::cpu(), .max_positions = 8}, {});
      });
  EXPECT_GT(read, 0);
}

TEST(CheckpointFuzz, MutatedConfigsAreDescribedOrRefused) {
  const TemporaryFolder folder;
  for (const char* name : {"llama-yarn", "llama-bf16-sharded", "gpt2", "opt-post", "qwen2"}) {
    const int described =
        accepted(contents(fixture(name) / "config.json"),
                 {"null", "true", "1e9", "[]", "{}", "\"llama\"", "\"dynamic\"", "\"mistral\""},
                 [&](const std::string& bytes) {
                   folder.write("config.json", bytes);
                   const ModelDescription model = describe_model({folder.path(), {}});
                   check_partition(model.spec, {1, 1, 1});
                 });
    EXPECT_GT(described, 0) << name;
  }
}

}  // namespace
}  // namespace millrace
