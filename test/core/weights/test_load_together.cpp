// Ranks that load together hold what each would have read alone, and no byte is read twice.
#include <gmock/gmock.h>

#include <fstream>

#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "comm/grid.hpp"
#include "core/weights/loader.hpp"
#include "kernels/base/error.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

Tensor on_host(const TensorView& x) {
  Tensor copied(x.dtype(), Device::cpu(), {x.numel()});
  const Stream stream{x.device()};
  copy_bytes(copied->data(), Device::cpu(), x.data(), x.device(), x.bytes(), stream);
  synchronize(stream);
  return copied;
}

void expect_same(const TensorView& a, const TensorView& b, const char* what) {
  ASSERT_EQ(a.empty(), b.empty()) << what;
  if (a.empty()) return;
  ASSERT_EQ(a.bytes(), b.bytes()) << what;
  EXPECT_EQ(std::memcmp(on_host(a)->data(), on_host(b)->data(), a.bytes()), 0) << what;
}

void expect_same(const LinearWeight& a, const LinearWeight& b, const char* what) {
  ASSERT_EQ(a.n, b.n) << what;
  ASSERT_EQ(a.k, b.k) << what;
  if (!a.empty()) expect_same(a.data.view(), b.data.view(), what);
}

void expect_same(const RankWeights& a, const RankWeights& b) {
  expect_same(a.token_embedding, b.token_embedding, "token_embedding");
  expect_same(a.position_embedding, b.position_embedding, "position_embedding");
  expect_same(a.project_in, b.project_in, "project_in");
  expect_same(a.project_out, b.project_out, "project_out");
  expect_same(a.untied_head, b.untied_head, "untied_head");
  expect_same(a.final_norm.weight, b.final_norm.weight, "final_norm");
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    const LayerWeights& x = a.layers[i];
    const LayerWeights& y = b.layers[i];
    expect_same(x.attention_norm.weight, y.attention_norm.weight, "attention_norm");
    expect_same(x.attention_norm.bias, y.attention_norm.bias, "attention_norm bias");
    expect_same(x.qkv, y.qkv, "qkv");
    expect_same(x.qkv_bias, y.qkv_bias, "qkv bias");
    expect_same(x.qk_norm.q_weight, y.qk_norm.q_weight, "q norm");
    expect_same(x.o, y.o, "o");
    expect_same(x.o_bias, y.o_bias, "o bias");
    expect_same(x.up, y.up, "up");
    expect_same(x.up_bias, y.up_bias, "up bias");
    expect_same(x.down, y.down, "down");
    expect_same(x.down_bias, y.down_bias, "down bias");
  }
  EXPECT_EQ(a.report.weight_bytes, b.report.weight_bytes);
}

// A rank of a grid with what it loads.
struct Rank {
  Rank(const GridShape& shape, const ModelFiles& from, Device where = Device::cpu())
      : files(from), model(describe_model(from)), device(where), grid(world(), shape) {
    const GridCoordinates& at = grid.coordinates();
    slices = partition(model.spec, shape, at);
    grid.bind(device);
    replicas = grid.world().subgroup(data_ranks(at, shape));
    replicas.bind(device);
    for (int tensor = 0; tensor < shape.tensor; ++tensor) {
      peers.tensor_slices.push_back(partition(model.spec, shape, {at.data, at.pipeline, tensor}));
    }
  }

  RankWeights load(bool together) const { return load(together, *open_checkpoint(files), {}); }

  RankWeights load(bool together, Checkpoint& checkpoint,
                   std::optional<std::int64_t> piece_bytes) const {
    const OwnedStream stream(device);
    LoadOptions options{.dtype = DType::f32,
                        .device = device,
                        .max_positions = 40,
                        .peers = together ? &peers : nullptr};
    if (piece_bytes) options.piece_bytes = *piece_bytes;
    return load_weights(model, checkpoint, slices, options, stream.stream());
  }

  ModelFiles files;
  ModelDescription model;
  Device device;
  Grid grid;
  RankSlices slices;
  Comm replicas;
  LoadPeers peers{grid.tensor(), replicas, {}};
};

std::vector<GridShape> grids() {
  std::vector<GridShape> shapes;
  for (int data = 1; data <= world().size(); ++data) {
    for (int pipeline = 1; pipeline <= 2; ++pipeline) {
      if (world().size() % (data * pipeline) != 0 || world().size() / (data * pipeline) > 4)
        continue;
      shapes.push_back({data, pipeline, world().size() / (data * pipeline)});
    }
  }
  return shapes;
}

class LoadTogether : public ::testing::TestWithParam<const char*> {};

TEST_P(LoadTogether, EveryRankOfEveryGridHoldsWhatItWouldHaveReadAlone) {
  for (const GridShape& shape : grids()) {
    SCOPED_TRACE(to_string(shape));
    const Rank rank(shape, find_model(MILLRACE_TEST_DATA "/models/" + std::string(GetParam())));
    expect_same(rank.load(true), rank.load(false));
  }
}

// Cut by rows, by columns, replicated; with transposed and interleaved tensors; KV heads that
// several ranks hold (qwen2 has 2).
INSTANTIATE_TEST_SUITE_P(Fixtures, LoadTogether,
                         ::testing::Values("gpt2", "llama-bf16-sharded", "llama-gguf", "opt-post",
                                           "qwen2", "qwen3"),
                         [](const auto& name) {
                           std::string word = name.param;
                           std::replace(word.begin(), word.end(), '-', '_');
                           return word;
                         });

TEST(LoadTogether, NoByteIsReadTwice) {
  const ModelFiles files = find_model(MILLRACE_TEST_DATA "/models/llama-dynamic");
  const ModelDescription model = describe_model(files);
  const auto checkpoint = open_checkpoint(files);
  const std::int64_t once =
      load_weights(model, *checkpoint, partition(model.spec, {1, 1, 1}, {0, 0, 0}),
                   {.device = Device::cpu(), .max_positions = 40}, {})
          .report.bytes_read;
  for (const GridShape& shape : grids()) {
    if (shape.pipeline > 1) continue;  // a tied table would be on two stages
    SCOPED_TRACE(to_string(shape));
    const Rank rank(shape, files);
    const std::int64_t mine = rank.load(true).report.bytes_read;
    EXPECT_EQ(world().all_reduce_sum(mine), once);
    // And everybody reads.
    EXPECT_GT(world().all_reduce_min(mine), 0);
  }
}

// Loads made-up weights that are large enough for every matrix to be cut into several pieces.
void expect_pieces_in_place(Device device) {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1088, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64, "tie_word_embeddings": false, "torch_dtype": "float32"})");
  const ModelFiles files = find_model(folder.path());
  for (const GridShape& shape : grids()) {
    SCOPED_TRACE(to_string(shape));
    const Rank rank(shape, files, device);
    const auto checkpoint = make_dummy_checkpoint(rank.model, 1);
    expect_same(rank.load(true, *checkpoint, 1), rank.load(false, *checkpoint, {}));
  }
}

TEST(LoadTogether, PiecesComeFromAllRanksAndGoToTheirPlaces) {
  expect_pieces_in_place(Device::cpu());
}

TEST(LoadTogether, PiecesComeToTheirPlacesOnGpus) {
  const int gpus = cuda_device_count();
  if (gpus == 0) GTEST_SKIP() << "skipped: no CUDA device";
  if (gpus < world().size()) {
    GTEST_SKIP() << "skipped: " << gpus << " CUDA devices for " << world().size() << " ranks";
  }
  expect_pieces_in_place(Device::cuda(world().rank()));
}

TEST(LoadTogether, ARankThatCannotReadServesTheOthersAndIsTheOneThatThrows) {
  if (world().size() == 1) GTEST_SKIP() << "needs others";
  // Every rank has a copy of the checkpoint; the last rank's ends too early.
  const TemporaryFolder folder;
  fs::copy(MILLRACE_TEST_DATA "/models/llama-dynamic", folder.path());
  const int broken = world().size() - 1;
  const ModelFiles files = find_model(folder.path());
  const Rank rank({world().size(), 1, 1}, files);
  const auto checkpoint = open_checkpoint(files);
  if (world().rank() == broken) {
    const fs::path file = folder / "model.safetensors";
    fs::resize_file(file, fs::file_size(file) / 8);
  }
  std::string error;
  try {
    load_weights(rank.model, *checkpoint, rank.slices,
                 {.device = Device::cpu(), .max_positions = 40, .peers = &rank.peers}, {});
  } catch (const UserError& e) {
    error = e.what();
  }
  if (world().rank() == broken) {
    EXPECT_THAT(error, ::testing::HasSubstr("truncated"));
  } else {
    EXPECT_EQ(error, "");
  }
}

}  // namespace
}  // namespace millrace
