// What the host does in one decode step, by number of sequences: the share of a step in which a
// device would wait for it. Each sequence holds about 1,000 tokens in blocks of 16. Time is for the
// whole batch.
#include <benchmark/benchmark.h>

#include "core/batch/scheduler.hpp"
#include "core/engine/collector.hpp"
#include "core/engine/sampling_rows.hpp"
#include "core/engine/step_wire.hpp"

namespace millrace {
namespace {

constexpr std::int32_t prompt_length = 1000;
constexpr std::int32_t forever = 1 << 20;

// A scheduler whose sequences have all finished their prompts.
struct Decoding {
  explicit Decoding(std::int32_t sequences, const SamplingParams& sampling = {})
      : scheduler({.max_num_batched_tokens = 16384,
                   .max_num_seqs = sequences,
                   .max_model_len = forever,
                   .block_size = 16,
                   .num_blocks = 2'000'000,
                   .lag = 0,
                   .lookahead = 0,
                   .eos_token_ids = {2}}) {
    StepInput input;
    for (std::int32_t i = 0; i < sequences; ++i) {
      auto request = std::make_shared<Request>();
      request->key.offset = 4096LL * i;
      for (std::int32_t t = 0; t < prompt_length; ++t) {
        request->prompt_tokens.push_back(3 + (t * 17 + i) % 30'000);
      }
      request->sampling = sampling;
      request->sampling.max_tokens = forever / 2;
      input.admissions.push_back(std::move(request));
    }
    scheduler.apply(input, updates);
    while (plan == nullptr || plan->decode_sequences < sequences) step();
  }

  void step() {
    updates.clear();
    if (scheduler.expects_result()) scheduler.apply(result, updates);
    plan = &scheduler.schedule();
    result.step = plan->step;
    result.tokens.assign(plan->samples.size(), 77);
  }

  Scheduler scheduler;
  std::vector<SequenceUpdate> updates;
  const BatchPlan* plan = nullptr;
  StepResult result;
};

void count_sequences(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void ApplyAndSchedule(benchmark::State& state) {
  Decoding decoding(static_cast<std::int32_t>(state.range(0)));
  for (auto _ : state) decoding.step();
  count_sequences(state);
}

void SampleRows(benchmark::State& state) {
  const Decoding decoding(static_cast<std::int32_t>(state.range(0)),
                          {.temperature = 0.7F, .top_p = 0.9F});
  SamplingRowsBuilder builder(static_cast<std::int32_t>(state.range(0)), 1, {2});
  SamplingRows rows;
  for (auto _ : state) builder.build(decoding.plan->samples, rows);
  count_sequences(state);
}

void SampleRowsWithPenalties(benchmark::State& state) {
  const Decoding decoding(static_cast<std::int32_t>(state.range(0)), {.repetition_penalty = 1.1F});
  SamplingRowsBuilder builder(static_cast<std::int32_t>(state.range(0)), 1, {2});
  SamplingRows rows;
  for (auto _ : state) builder.build(decoding.plan->samples, rows);
  count_sequences(state);
}

class NoSink : public ResultSink {
 public:
  void put(FinishedRequest&&) override {}
};

void Collect(benchmark::State& state) {
  Decoding decoding(static_cast<std::int32_t>(state.range(0)));
  NoSink sink;
  Collector collector(nullptr, sink, 0, [] { return 0.0; });
  decoding.updates.clear();
  decoding.scheduler.apply(decoding.result, decoding.updates);
  for (auto _ : state) collector.collect(decoding.updates, {});
  count_sequences(state);
}

void EncodeAndDecodeResult(benchmark::State& state) {
  Decoding decoding(static_cast<std::int32_t>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(decode_step_result(encode(decoding.result, true)));
  }
  count_sequences(state);
}

// A fixed number of steps: the sequences grow by one token in each.
BENCHMARK(ApplyAndSchedule)->Arg(1)->Arg(64)->Arg(256)->Arg(1024)->Arg(2048)->Iterations(1000);
BENCHMARK(SampleRows)->Arg(256)->Arg(2048);
BENCHMARK(SampleRowsWithPenalties)->Arg(256)->Arg(2048);
BENCHMARK(Collect)->Arg(256)->Arg(2048);
BENCHMARK(EncodeAndDecodeResult)->Arg(256)->Arg(2048);

}  // namespace
}  // namespace millrace
