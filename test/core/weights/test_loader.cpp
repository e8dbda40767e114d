#include "core/weights/loader.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/model/memory.hpp"
#include "core/model/quantization.hpp"
#include "core/weights/read_weight.hpp"
#include "kernels/base/error.hpp"
#include "samples.hpp"

namespace millrace {
namespace {

using test::bytes_of;
using test::element;
using test::GgufBytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int64_t max_positions = 40;

struct Loaded {
  ModelDescription model;
  RankSlices slices;
  RankWeights weights;
};

Loaded load(const ModelFiles& files, GridShape grid, GridCoordinates rank, DType dtype) {
  Loaded loaded{describe_model(files), {}, {}};
  loaded.slices = partition(loaded.model.spec, grid, rank);
  const auto checkpoint = open_checkpoint(files);
  loaded.weights =
      load_weights(loaded.model, *checkpoint, loaded.slices,
                   {.dtype = dtype, .device = Device::cpu(), .max_positions = max_positions}, {});
  return loaded;
}

Loaded load_fixture(const std::string& name, GridShape grid, GridCoordinates rank) {
  return load(find_model(MILLRACE_TEST_DATA "/models/" + name), grid, rank, DType::f32);
}

// Rows and columns of `part` are rows and columns of `whole` from the given offsets on.
void expect_block(const LinearWeight& part, Range rows, const LinearWeight& whole,
                  std::int64_t whole_row, std::int64_t whole_column) {
  for (std::int64_t row = 0; row < rows.count; ++row) {
    for (std::int64_t column = 0; column < part.k; ++column) {
      ASSERT_EQ(element(part, rows.begin + row, column),
                element(whole, whole_row + row, whole_column + column))
          << "row " << row << " column " << column;
    }
  }
}

void expect_part(const TensorView& part, Range range, const TensorView& whole, std::int64_t from) {
  ASSERT_LE(from + range.count, whole.size(0));
  for (std::int64_t i = 0; i < range.count; ++i) {
    ASSERT_EQ(part.as<float>()[range.begin + i], whole.as<float>()[from + i]);
  }
}

// A rank's layer against the same layer of a rank that holds everything.
void expect_layer(const Loaded& rank, std::size_t local, const LayerWeights& whole) {
  const LayerWeights& part = rank.weights.layers[local];
  const LayerSlice& slice = rank.slices.slices[local];
  const auto index = static_cast<std::size_t>(rank.slices.layers.begin) + local;
  const LayerSpec& spec = rank.model.spec.layers[index];
  const std::int64_t dim = spec.attention.head_dim;
  const std::int64_t heads = slice.heads.count * dim;
  const std::int64_t kv = slice.kv_heads.count * dim;
  const std::int64_t all_heads = spec.attention.heads * dim;
  const std::int64_t all_kv = spec.attention.kv_heads * dim;
  const std::int64_t kv_begin = slice.kv_heads.begin * dim;
  ASSERT_EQ(part.qkv.n, heads + 2 * kv);
  ASSERT_EQ(whole.qkv.n, all_heads + 2 * all_kv);
  expect_block(part.qkv, {0, heads}, whole.qkv, slice.heads.begin * dim, 0);
  expect_block(part.qkv, {heads, kv}, whole.qkv, all_heads + kv_begin, 0);
  expect_block(part.qkv, {heads + kv, kv}, whole.qkv, all_heads + all_kv + kv_begin, 0);
  expect_block(part.o, {0, part.o.n}, whole.o, 0, slice.heads.begin * dim);
  const Range inner = slice.intermediate;
  expect_block(part.up, {0, inner.count}, whole.up, inner.begin, 0);
  if (spec.mlp.gated) {
    expect_block(part.up, {inner.count, inner.count}, whole.up,
                 spec.mlp.intermediate_size + inner.begin, 0);
  }
  expect_block(part.down, {0, part.down.n}, whole.down, 0, inner.begin);

  EXPECT_EQ(part.qkv_bias.empty(), !spec.attention.qkv_bias);
  if (spec.attention.qkv_bias) {
    expect_part(part.qkv_bias, {0, heads}, whole.qkv_bias, slice.heads.begin * dim);
    expect_part(part.qkv_bias, {heads, kv}, whole.qkv_bias, all_heads + kv_begin);
    expect_part(part.qkv_bias, {heads + kv, kv}, whole.qkv_bias, all_heads + all_kv + kv_begin);
  }
  const bool adds = rank.slices.tensor_rank == 0;
  EXPECT_EQ(part.o_bias.empty(), !(spec.attention.o_bias && adds));
  EXPECT_EQ(part.down_bias.empty(), !(spec.mlp.bias && adds));
  EXPECT_EQ(part.up_bias.empty(), !spec.mlp.bias);
  if (spec.mlp.bias) expect_part(part.up_bias, {0, inner.count}, whole.up_bias, inner.begin);
  expect_part(part.attention_norm.weight, {0, rank.model.spec.hidden_size},
              whole.attention_norm.weight, 0);
  EXPECT_EQ(part.qk_norm.q_weight.empty(), !spec.attention.qk_norm);
}

class LoaderOfEveryFixture : public ::testing::TestWithParam<const char*> {};

void expect_parts(const std::string& fixture, const std::vector<GridShape>& grids) {
  const Loaded whole = load_fixture(fixture, {1, 1, 1}, {0, 0, 0});
  for (const GridShape grid : grids) {
    for (int stage = 0; stage < grid.pipeline; ++stage) {
      for (int tensor = 0; tensor < grid.tensor; ++tensor) {
        SCOPED_TRACE(
            fmt::format("tp {} pp {} rank {} stage {}", grid.tensor, grid.pipeline, tensor, stage));
        const Loaded rank = load_fixture(fixture, grid, {0, stage, tensor});
        ASSERT_EQ(rank.weights.layers.size(), rank.slices.slices.size());
        for (std::size_t i = 0; i < rank.weights.layers.size(); ++i) {
          const auto index = static_cast<std::size_t>(rank.slices.layers.begin) + i;
          expect_layer(rank, i, whole.weights.layers[index]);
        }
        const Range vocab = rank.slices.vocab;
        if (rank.slices.has_embedding) {
          expect_block(rank.weights.token_embedding, {0, vocab.count},
                       whole.weights.token_embedding, vocab.begin, 0);
        }
        if (rank.slices.has_head) {
          const LinearWeight& head = rank.weights.lm_head();
          ASSERT_EQ(head.n, rank.slices.vocab_padded);
          expect_block(head, {0, vocab.count}, whole.weights.lm_head(), vocab.begin, 0);
          for (std::int64_t row = vocab.count; row < head.n; ++row) {
            ASSERT_EQ(element(head, row, 0), 0.0F);
          }
        }
        EXPECT_EQ(
            rank.weights.report.weight_bytes,
            weight_bytes(rank.model, rank.slices, DType::f32, DeviceKind::cpu, max_positions));
        EXPECT_LT(rank.weights.report.bytes_read, whole.weights.report.bytes_read);
      }
    }
  }
}

TEST_P(LoaderOfEveryFixture, EveryGridHoldsPartsOfTheSameModelAndThePredictedBytes) {
  expect_parts(GetParam(), {{1, 1, 2}, {1, 1, 4}, {1, 2, 3}});
}

TEST(Loader, RanksThatCutAtWholeScaledBlocksHoldPartsOfTheSameModel) {
  expect_parts("llama-fp8-block", {{1, 1, 2}, {1, 2, 1}});
}

INSTANTIATE_TEST_SUITE_P(Fixtures, LoaderOfEveryFixture,
                         ::testing::Values("gpt2", "llama-bf16-sharded", "llama-fp8-channel",
                                           "llama-fp8-static", "llama-gguf", "llama-tied-bias",
                                           "opt-post", "opt-pre", "qwen2", "qwen3"),
                         [](const auto& name) {
                           std::string word = name.param;
                           std::replace(word.begin(), word.end(), '-', '_');
                           return word;
                         });

TEST(Loader, ATiedHeadIsTheEmbeddingItselfOnOneRankAndReadAgainOnTheLastStage) {
  const Loaded one = load_fixture("qwen2", {1, 1, 1}, {0, 0, 0});
  EXPECT_EQ(&one.weights.lm_head(), &one.weights.token_embedding);
  EXPECT_TRUE(one.weights.untied_head.empty());
  const Loaded last = load_fixture("qwen2", {1, 2, 1}, {0, 1, 0});
  EXPECT_EQ(last.weights.lm_head().k, last.model.spec.hidden_size);
}

TEST(Loader, ARankReadsOnlyItsOwnBytes) {
  // Every tensor of this f32 checkpoint is cut or replicated; the sum over ranks of what a cut
  // leaves is the tensor once.
  const Loaded whole = load_fixture("llama-dynamic", {1, 1, 1}, {0, 0, 0});
  std::int64_t sum = 0;
  for (int rank = 0; rank < 3; ++rank) {
    sum += load_fixture("llama-dynamic", {1, 1, 3}, {0, 0, rank}).weights.report.bytes_read;
  }
  const std::int64_t layers = static_cast<std::int64_t>(whole.model.spec.layers.size());
  const std::int64_t replicated = (2 * layers + 1) * whole.model.spec.hidden_size * 4;
  EXPECT_EQ(sum, whole.weights.report.bytes_read + 2 * replicated);
}

TEST(Loader, SixteenBitWeightsStayAsTheyAreStored) {
  const ModelFiles files = find_model(MILLRACE_TEST_DATA "/models/llama-bf16-sharded");
  const Loaded as_f32 = load(files, {1, 1, 1}, {0, 0, 0}, DType::f32);
  const Loaded as_bf16 = load(files, {1, 1, 1}, {0, 0, 0}, DType::bf16);
  EXPECT_EQ(as_bf16.weights.layers[0].qkv.dtype(), DType::bf16);
  EXPECT_EQ(as_bf16.weights.layers[0].attention_norm.weight.dtype(), DType::f32);
  expect_block(as_bf16.weights.layers[2].down, {0, as_bf16.weights.layers[2].down.n},
               as_f32.weights.layers[2].down, 0, 0);
  EXPECT_EQ(
      as_bf16.weights.report.weight_bytes,
      weight_bytes(as_bf16.model, as_bf16.slices, DType::bf16, DeviceKind::cpu, max_positions));
}

TEST(Loader, AnIgnoredModuleStaysAsItIsAndFixedInputScalesAreKept) {
  const Loaded channel = load_fixture("llama-fp8-channel", {1, 1, 1}, {0, 0, 0});
  EXPECT_EQ(channel.weights.layers[0].down.dtype(), DType::fp8_e4m3);
  EXPECT_EQ(channel.weights.layers[0].down.input_scale, 0.0F);
  EXPECT_EQ(channel.weights.layers[1].down.dtype(), DType::f32);
  EXPECT_EQ(channel.weights.lm_head().dtype(), DType::f32);
  const Loaded fixed = load_fixture("llama-fp8-static", {1, 1, 1}, {0, 0, 0});
  EXPECT_FLOAT_EQ(fixed.weights.layers[0].qkv.input_scale, 6.0F / 448);
}

TEST(Loader, WeightsQuantizedAtLoadAreWithinAStepOfTheCheckpoints) {
  const ModelFiles files = find_model(MILLRACE_TEST_DATA "/models/llama-tied-bias");
  const Loaded plain = load_fixture("llama-tied-bias", {1, 1, 1}, {0, 0, 0});
  ModelDescription model = describe_model(files);
  quantize_at_load(model);
  const RankSlices slices = partition(model.spec, {1, 1, 2}, {0, 0, 1});
  const auto checkpoint = open_checkpoint(files);
  const RankWeights half = load_weights(
      model, *checkpoint, slices,
      {.dtype = DType::bf16, .device = Device::cpu(), .max_positions = max_positions}, {});
  EXPECT_EQ(half.report.weight_bytes,
            weight_bytes(model, slices, DType::bf16, DeviceKind::cpu, max_positions));
  EXPECT_EQ(half.token_embedding.dtype(), DType::bf16);
  const LinearWeight& down = half.layers[0].down;
  const LinearWeight& whole = plain.weights.layers[0].down;
  ASSERT_EQ(down.dtype(), DType::fp8_e4m3);
  const std::int64_t begin = slices.slices[0].intermediate.begin;
  for (std::int64_t row = 0; row < down.n; ++row) {
    for (std::int64_t column = 0; column < down.k; ++column) {
      const float exact = element(whole, row, begin + column);
      const float step =
          std::fabs(exact) * (0x1p-4F + 0x1p-8F) + down.scales->as<float>()[row] * 0x1p-10F;
      ASSERT_NEAR(element(down, row, column), exact, step);
    }
  }
}

// The fixture with one thing changed in its config or in the list of its tensors.
std::string fp8_error(const std::function<void(nlohmann::json&)>& change_config,
                      const std::string& tensor = "", const std::string& renamed = "") {
  const TemporaryFolder folder;
  const std::filesystem::path from = MILLRACE_TEST_DATA "/models/llama-fp8-block";
  nlohmann::json config = nlohmann::json::parse(std::ifstream(from / "config.json"));
  change_config(config);
  folder.write("config.json", config.dump());
  std::ostringstream file;
  file << std::ifstream(from / "model.safetensors", std::ios::binary).rdbuf();
  std::string bytes = file.str();
  if (!tensor.empty()) bytes.replace(bytes.find(tensor), tensor.size(), renamed);
  folder.write("model.safetensors", bytes);
  try {
    load(find_model(folder.path().string()), {1, 1, 1}, {0, 0, 0}, DType::f32);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Loader, AnFp8CheckpointThatDoesNotFitItsConfigIsNamed) {
  const auto nothing = [](nlohmann::json&) {};
  EXPECT_EQ(fp8_error(nothing), "");
  EXPECT_THAT(fp8_error([](auto& config) { config.erase("quantization_config"); }),
              AllOf(HasSubstr("_proj.weight"), HasSubstr("stored as F8_E4M3")));
  EXPECT_THAT(fp8_error(nothing, "layers.1.mlp.up_proj.weight_scale_inv",
                        "layers.1.mlp.up_proj.weight_scale_xxx"),
              AllOf(HasSubstr("layers.1.mlp.up_proj.weight_scale_inv"), HasSubstr("missing")));
  EXPECT_THAT(fp8_error([](auto& config) {
                config["quantization_config"]["modules_to_not_convert"] = {"model.layers.0"};
              }),
              AllOf(HasSubstr("layers.0"), HasSubstr("stored as F8_E4M3")));
  EXPECT_THAT(
      fp8_error([](auto& config) { config["quantization_config"].erase("weight_block_size"); }),
      AllOf(HasSubstr("weight_scale"), HasSubstr("missing")));
}

TEST(Loader, ACutThroughAScaledBlockIsTheUsersError) {
  ModelDescription model = describe_model(find_model(MILLRACE_TEST_DATA "/models/llama-fp8-block"));
  model.spec.granule = 1;  // cuts the inner dimension at 64, as no plan does
  const auto checkpoint = open_checkpoint(find_model(MILLRACE_TEST_DATA "/models/llama-fp8-block"));
  RankSlices slices = partition(model.spec, {1, 1, 2}, {0, 0, 0});
  for (LayerSlice& slice : slices.slices) slice.intermediate = {0, 64};
  EXPECT_THAT(
      [&] {
        load_weights(model, *checkpoint, slices,
                     {.dtype = DType::f32, .device = Device::cpu(), .max_positions = 8}, {});
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr("gate_proj"), HasSubstr("64 of 256"))));
}

// gate stands before up in one matrix, whose blocks would not be the checkpoint's.
TEST(Loader, AStackedMatrixOfNoWholeBlocksIsTheUsersError) {
  const TemporaryFolder folder;
  const std::filesystem::path from = MILLRACE_TEST_DATA "/models/llama-fp8-block";
  nlohmann::json config = nlohmann::json::parse(std::ifstream(from / "config.json"));
  config["intermediate_size"] = 192;
  folder.write("config.json", config.dump());
  const ModelDescription model = describe_model(find_model(folder.path().string()));
  const auto checkpoint = make_dummy_checkpoint(model, 1);
  EXPECT_THAT(
      [&] {
        load_weights(model, *checkpoint, partition(model.spec, {1, 1, 1}, {0, 0, 0}),
                     {.dtype = DType::f32, .device = Device::cpu(), .max_positions = 8}, {});
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr("gate_proj"), HasSubstr("192 rows"))));
}

// A Llama of one layer, one head of 4, everything else 4 wide, whose q rows are numbered as the
// file stores them.
GgufBytes interleaved_llama() {
  const auto matrix = [](int rows, bool numbered) {
    std::vector<float> values;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < 4; ++column) {
        values.push_back(numbered ? static_cast<float>(row) : 0.0F);
      }
    }
    return bytes_of(values);
  };
  GgufBytes file;
  file.text("general.architecture", "llama")
      .number("llama.embedding_length", 4)
      .number("llama.feed_forward_length", 4)
      .number("llama.block_count", 1)
      .number("llama.attention.head_count", 1)
      .tensor("token_embd.weight", {4, 8}, 0, matrix(8, false))
      .tensor("output_norm.weight", {4}, 0, matrix(1, false))
      .tensor("blk.0.attn_norm.weight", {4}, 0, matrix(1, false))
      .tensor("blk.0.ffn_norm.weight", {4}, 0, matrix(1, false));
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"}) {
    file.tensor(fmt::format("blk.0.{}.weight", name), {4, 4}, 0, matrix(4, true));
  }
  return file;
}

TEST(Loader, InterleavedHeadsComeOutAsHalves) {
  const TemporaryFolder folder;
  GgufBytes file = interleaved_llama();
  file.tensor("blk.0.ffn_down.weight", {4, 4}, 0, std::string(64, '\0'));
  const Loaded loaded =
      load({folder.path(), folder.write("a.gguf", file.bytes())}, {1, 1, 1}, {0, 0, 0}, DType::f32);
  const LinearWeight& qkv = loaded.weights.layers[0].qkv;
  std::vector<float> rows;
  for (std::int64_t row = 0; row < qkv.n; ++row) rows.push_back(element(qkv, row, 0));
  // Stored (0, 2, 1, 3) of the model's rows: q and k are brought back, v is as it was.
  EXPECT_THAT(rows, ElementsAre(0, 2, 1, 3, 0, 2, 1, 3, 0, 1, 2, 3));
}

// The gpt2 fixture as llama.cpp's converter would write it: [out, in], its own names.
std::string gpt2_as_gguf() {
  const std::map<std::string, std::string> words{
      {"wte", "token_embd"}, {"wpe", "position_embd"},    {"ln_f", "output_norm"},
      {"ln_1", "attn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"},
      {"ln_2", "ffn_norm"},  {"mlp.c_fc", "ffn_up"},      {"mlp.c_proj", "ffn_down"},
  };
  const ModelFiles files = find_model(MILLRACE_TEST_DATA "/models/gpt2");
  const ModelDescription model = describe_model(files);
  const auto checkpoint = open_checkpoint(files);
  GgufBytes out;
  out.text("general.architecture", "gpt2")
      .number("gpt2.context_length", 256)
      .number("gpt2.embedding_length", 45)
      .number("gpt2.block_count", 4)
      .number("gpt2.attention.head_count", 5)
      .key("gpt2.attention.layer_norm_epsilon", 6, bytes_of(1e-5F));
  for (const TensorSpec& tensor : model.tensors) {
    if (tensor.row_offset > 0) continue;  // a fused tensor is written once
    const CheckpointTensor& stored = find_weight(*checkpoint, tensor, model.name_prefixes);
    const bool is_matrix = stored.shape.size() == 2;
    const std::int64_t rows = stored.shape[0];
    const std::int64_t columns = is_matrix ? stored.shape[1] : 1;
    std::vector<float> values =
        test::read_values(*checkpoint, stored.name, {0, rows}, {0, columns});
    std::vector<std::uint64_t> sizes{static_cast<std::uint64_t>(rows)};
    if (is_matrix) sizes.insert(sizes.begin(), static_cast<std::uint64_t>(columns));
    if (tensor.transposed) {
      std::vector<float> turned(values.size());
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < columns; ++column) {
          turned[static_cast<std::size_t>(column * rows + row)] =
              values[static_cast<std::size_t>(row * columns + column)];
        }
      }
      values = std::move(turned);
      std::swap(sizes[0], sizes[1]);
    }
    const std::string block = tensor.layer < 0 ? "" : fmt::format("h.{}.", tensor.layer);
    const auto dot = tensor.name.rfind('.');
    const std::string word = words.at(tensor.name.substr(block.size(), dot - block.size()));
    const std::string prefix = tensor.layer < 0 ? "" : fmt::format("blk.{}.", tensor.layer);
    out.tensor(prefix + word + tensor.name.substr(dot), sizes, 0, bytes_of(values));
  }
  return out.bytes();
}

TEST(Loader, Gpt2FromGgufIsTheModelOfItsHuggingFaceFolder) {
  const TemporaryFolder folder;
  const ModelFiles gguf{folder.path(), folder.write("gpt2.gguf", gpt2_as_gguf())};
  const Loaded whole = load_fixture("gpt2", {1, 1, 1}, {0, 0, 0});
  for (int rank = 0; rank < 2; ++rank) {
    const Loaded part = load(gguf, {1, 1, 2}, {0, 0, rank}, DType::f32);
    for (std::size_t i = 0; i < part.weights.layers.size(); ++i) {
      expect_layer(part, i, whole.weights.layers[i]);
    }
    expect_part(part.weights.position_embedding.slice(1, 0, 1), {0, 1},
                whole.weights.position_embedding.slice(1, 0, 1), 0);
  }
}

TEST(Loader, AMissingTensorOrAnotherShapeIsTheUsersError) {
  const TemporaryFolder folder;
  const auto loading = [&](const GgufBytes& file) {
    return [&folder, bytes = file.bytes()] {
      load({folder.path(), folder.write("a.gguf", bytes)}, {1, 1, 1}, {0, 0, 0}, DType::f32);
    };
  };
  EXPECT_THAT(loading(interleaved_llama()),
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("a.gguf"), HasSubstr("'blk.0.ffn_down.weight' is missing"))));
  GgufBytes other = interleaved_llama();
  other.tensor("blk.0.ffn_down.weight", {8, 4}, 0, std::string(128, '\0'));
  EXPECT_THAT(loading(other),
              ThrowsMessage<UserError>(AllOf(HasSubstr("'blk.0.ffn_down.weight' has shape [4, 8]"),
                                             HasSubstr("[4, 4]"))));
}

}  // namespace
}  // namespace millrace
