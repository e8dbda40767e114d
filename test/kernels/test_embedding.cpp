#include "kernels/embedding.hpp"

#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

TEST(Embedding, ReadsRowsOfThePackedTableInEveryDType) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor table = random_tensor(dtype, {70, 37}, 51);
    const LinearWeight packed = pack_linear(table, Device::cpu(), cpu_stream);
    const Tensor ids = ints({0, 69, 31, 32, 33, 0});
    const Tensor out = poisoned(DType::f32, {6, 37});
    embedding(out, ids, packed, 0, 2, cpu_stream);
    for (std::int64_t t = 0; t < 6; ++t) {
      for (std::int64_t i = 0; i < 37; ++i) {
        const std::int64_t at = ids->as<std::int32_t>()[t] * 37 + i;
        ASSERT_EQ(out->as<float>()[t * 37 + i], 2 * element(table, at));
      }
    }
  }
}

TEST(Embedding, TheSumOverShardsIsTheWholeTable) {
  const Tensor table = random_tensor(DType::f32, {50, 8}, 52);
  const Tensor ids = ints({0, 19, 20, 49});
  const Tensor whole = poisoned(DType::f32, {4, 8});
  const Tensor first = poisoned(DType::f32, {4, 8});
  const Tensor second = poisoned(DType::f32, {4, 8});
  const auto read = [&](const TensorView& out, std::int64_t begin, std::int64_t count) {
    embedding(out, ids, pack_linear(table->slice(0, begin, count), Device::cpu(), cpu_stream),
              begin, 1, cpu_stream);
  };
  read(whole, 0, 50);
  read(first, 0, 20);
  read(second, 20, 30);
  for (std::int64_t i = 0; i < 32; ++i) {
    EXPECT_EQ(first->as<float>()[i] + second->as<float>()[i], whole->as<float>()[i]);
    EXPECT_EQ((i < 16 ? second : first)->as<float>()[i], 0);
  }
}

TEST(PositionEmbedding, AddsTheRowOfThePositionPlusTheOffset) {
  const Tensor table = floats({4, 2}, {0, 0, 1, 2, 3, 4, 5, 6});
  const Tensor out = floats({2, 2}, {10, 10, 20, 20});
  add_position_embedding(out, ints({1, 0}), table, 2, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{15, 16, 23, 24}));
}

TEST(Embedding, AShapeErrorNamesTheTensor) {
  const LinearWeight table =
      pack_linear(random_tensor(DType::f32, {4, 6}, 1), Device::cpu(), cpu_stream);
  const Tensor out(DType::f32, Device::cpu(), {2, 5});
  EXPECT_EQ(shape_error([&] {
              embedding(out, ints({1, 2}), table, 0, 1, cpu_stream);
            }),
            "embedding: out is float32 [2, 5] on cpu, expected float32 [2, 6]");
}

}  // namespace
}  // namespace millrace
