// The sampler on one rank: 16 rows of 49,152 logits, by what the rows ask for. Items are rows.
#include <benchmark/benchmark.h>

#include <random>

#include "core/engine/sampler.hpp"

namespace millrace {
namespace {

constexpr std::int64_t vocab = 49'152;
constexpr std::int64_t rows = 16;

void Sample(benchmark::State& state, const SamplingParams& sampling) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  const Tensor logits(DType::f32, Device::cpu(), {rows, vocab});
  for (std::int64_t i = 0; i < rows * vocab; ++i) logits->as<float>()[i] = normal(random);
  auto request = std::make_shared<Request>();
  request->prompt_tokens.assign(500, 7);
  request->sampling = sampling;
  Sequence sequence;
  sequence.request = request;
  sequence.tokens = request->prompt_tokens;
  sequence.slot = 0;
  const std::vector<millrace::Sample> samples(rows, {&sequence, 0});
  const Comm alone;
  Sampler sampler(
      {.shard = {0, vocab}, .max_rows = rows, .max_num_seqs = 1, .seed = 1, .eos_token_ids = {2}},
      alone, Device::cpu());
  SampleDownload download(rows, Device::cpu());
  for (auto _ : state) {
    StepResult result;
    sampler.prepare(samples, {});
    sampler.draw(logits, {});
    sampler.download(download, {});
    download.append_to(result);
    benchmark::DoNotOptimize(result.tokens.data());
  }
  state.SetItemsProcessed(state.iterations() * rows);
}

BENCHMARK_CAPTURE(Sample, greedy, SamplingParams{.temperature = 0});
BENCHMARK_CAPTURE(Sample, greedy_with_5_logprobs, SamplingParams{.temperature = 0, .logprobs = 5});
BENCHMARK_CAPTURE(Sample, temperature, SamplingParams{.temperature = 0.8F});
BENCHMARK_CAPTURE(Sample, top_k_50, SamplingParams{.temperature = 0.8F, .top_k = 50});
BENCHMARK_CAPTURE(Sample, top_p_90, SamplingParams{.temperature = 0.8F, .top_p = 0.9F});
BENCHMARK_CAPTURE(Sample, top_k_50_top_p_90,
                  SamplingParams{.temperature = 0.8F, .top_p = 0.9F, .top_k = 50});

}  // namespace
}  // namespace millrace
