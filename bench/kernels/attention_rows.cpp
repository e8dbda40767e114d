#include <fmt/format.h>

#include <numeric>
#include <vector>

#include "bench/kernels/rows.hpp"
#include "kernels/attention.hpp"

namespace millrace::bench {
namespace {

struct Model {
  const char* name;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
};

struct Load {
  const char* name;
  std::int64_t sequences;
  std::int32_t queries;
  std::int32_t keys;
};

Tensor ones(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor(dtype, Device::cpu(), shape);
  for (std::int64_t i = 0; i < tensor->numel(); ++i) {
    if (dtype == DType::f32) tensor->as<float>()[i] = 1;
    if (dtype == DType::bf16) tensor->as<Bfloat16>()[i] = to_bfloat16(1);
  }
  return tensor;
}

void attention_row(const Model& model, const Load& load, DType dtype, const Ceilings& ceilings) {
  constexpr std::int64_t block_size = 16;
  const std::int64_t blocks = (load.keys + block_size - 1) / block_size;
  const std::int64_t tokens = load.sequences * load.queries;
  const auto cache = [&] {
    return ones(dtype, {load.sequences * blocks, model.kv_heads, block_size, model.head_dim});
  };
  const Tensor k = cache();
  const Tensor v = cache();
  const Tensor q = ones(DType::f32, {tokens, model.heads * model.head_dim});
  const Tensor out = ones(DType::f32, {tokens, model.heads * model.head_dim});
  const Tensor tables(DType::i32, Device::cpu(), {load.sequences, blocks});
  // Neighbouring blocks of a sequence lie apart, as in a cache that has been in use.
  for (std::int64_t i = 0; i < load.sequences * blocks; ++i) {
    tables->as<std::int32_t>()[i] =
        static_cast<std::int32_t>(i % blocks * load.sequences + i / blocks);
  }
  const Tensor starts(DType::i32, Device::cpu(), {load.sequences + 1});
  const Tensor lengths(DType::i32, Device::cpu(), {load.sequences});
  for (std::int32_t s = 0; s <= load.sequences; ++s)
    starts->as<std::int32_t>()[s] = s * load.queries;
  for (std::int32_t s = 0; s < load.sequences; ++s) lengths->as<std::int32_t>()[s] = load.keys;
  const AttentionBatch batch{starts, lengths, tables, load.queries, load.keys, 0};
  const AttentionParams params{model.heads, model.kv_heads, model.head_dim, 0.125F, 0, 0};
  const Timing timing = time_calls([&] { paged_attention(out, q, k, v, batch, params, {}); });
  const double seen = load.keys - (load.queries - 1) / 2.0;  // keys per query, on average
  const double flops = 4.0 * seen * static_cast<double>(tokens * model.heads * model.head_dim);
  print_row("attention", fmt::format("{} {} {}", model.name, load.name, name(dtype)), timing,
            static_cast<double>(k->bytes() + v->bytes()), flops, ceilings);
}

}  // namespace

void attention_rows(const Ceilings& ceilings) {
  const Model models[] = {{"smollm2", 9, 3, 64}, {"1b", 32, 8, 64}, {"8b", 32, 8, 128}};
  const Load loads[] = {{"decode 1x4096", 1, 1, 4096},
                        {"decode 32x1024", 32, 1, 1024},
                        {"prefill 1x512", 1, 512, 512},
                        {"prefill 1x2048", 1, 2048, 2048},
                        {"chunk 1x256 of 4096", 1, 256, 4096}};
  for (const Model& model : models) {
    for (const Load& load : loads) {
      for (const DType dtype : {DType::f32, DType::bf16})
        attention_row(model, load, dtype, ceilings);
    }
  }
}

}  // namespace millrace::bench
