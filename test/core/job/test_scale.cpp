// What a rank does at start-up and in a step, on 8 ranks and on 1,024: the same. One process
// pretends to be single ranks of either world.
#include <gmock/gmock.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <fstream>

#include "comm/comm_dry_run.hpp"
#include "comm/stop_request.hpp"
#include "core/engine/replica.hpp"
#include "core/engine/step_wire.hpp"
#include "core/job/job_report.hpp"
#include "core/job/log.hpp"
#include "core/job/rank_model.hpp"
#include "core/job/start_check.hpp"
#include "core/plan/pick_grid.hpp"
#include "core/weights/checkpoint.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr GridShape small{1, 2, 4};
constexpr GridShape large{8, 16, 8};
constexpr int ranks_per_host = 8;

// A folder with the config of a small Llama.
class ModelFolder {
 public:
  ModelFolder(int layers, int heads) {
    folder_.write(
        "config.json",
        fmt::format(
            R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": {}, "num_hidden_layers": {}, "num_attention_heads": {},
        "num_key_value_heads": {}, "head_dim": 16, "vocab_size": {}, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512, "tie_word_embeddings": false, "torch_dtype": "float32"}})",
            64 * heads, layers, heads, heads, 64 * heads));
  }
  std::string path() const { return folder_.path(); }

 private:
  const TemporaryFolder folder_;
};

// --- start-up -----------------------------------------------------------------------------------

RunConfig config_for(const GridShape& shape, const std::string& model) {
  const std::vector<std::string> arguments = {
      "--model=" + model,
      "--load-format=dummy",
      "--prompts=p.jsonl",
      "--output=o.jsonl",
      "--device=cpu",
      "--max-model-len=64",
      fmt::format("--data-parallel-size={}", shape.data),
      fmt::format("--pipeline-parallel-size={}", shape.pipeline),
      fmt::format("--tensor-parallel-size={}", shape.tensor)};
  return parse_run_config(arguments);
}

DryRunTraffic start_up(const GridShape& shape, int number, const std::string& model) {
  start_log(LogLevel::error, false);
  DryRunTraffic traffic;
  const RunConfig config = config_for(shape, model);
  const Comm world = dry_run_world({.rank = number,
                                    .size = shape.ranks(),
                                    .ranks_per_host = ranks_per_host,
                                    .traffic = &traffic});
  check_programs(world);
  check_models(world, model);
  const JobPlan plan = plan_job(world, config);
  EXPECT_EQ(plan.grid.shape, shape);
  const std::vector<RankFacts> facts = check_hosts(world, plan.device);
  Grid grid(world, plan.grid.shape);
  grid.bind(plan.device);
  check_links(grid, plan.device, config.links);
  const RankModel rank = load_rank(grid, plan, config, StopRequest());
  describe_loading(grid.world(), rank.weights.report);
  Report report;
  describe_ranks(grid, plan, facts, rank, KvCacheRow{}, report);
  EXPECT_EQ(report.ranks.size(), number == 0 ? static_cast<std::size_t>(shape.ranks()) : 0U);
  return traffic;
}

// A rank in the middle of the grid, with neighbours on all sides where there are any.
int middle_of(const GridShape& shape) {
  return rank_of({shape.data / 2, shape.pipeline / 2, shape.tensor / 2}, shape);
}

TEST(Scale, StartUpCostsARankAsMuchOn1024RanksAsOn8) {
  const ModelFolder model(16, 8);
  for (const auto& [few, many] : std::vector<std::pair<int, int>>{
           {1, 1}, {middle_of(small), middle_of(large)}, {small.ranks() - 1, large.ranks() - 1}}) {
    const DryRunTraffic on_small = start_up(small, few, model.path());
    const DryRunTraffic on_large = start_up(large, many, model.path());
    const std::string costs = fmt::format(
        "rank {} of 1,024: {} messages, {} bytes, {} communicators; rank {} of "
        "8: {}, {}, {}",
        many, on_large.messages, on_large.bytes, on_large.communicators, few, on_small.messages,
        on_small.bytes, on_small.communicators);
    SCOPED_TRACE(costs);
    fmt::print("{}\n", costs);
    // Its tensor and pipeline groups are larger by 4 and 14 ranks, whose hosts and links it learns.
    EXPECT_LE(on_large.messages, on_small.messages + 80);
    EXPECT_LE(on_large.bytes, on_small.bytes + 4096);
    EXPECT_LE(on_large.communicators, on_small.communicators + 2);
  }
}

TEST(Scale, Rank0HearsOfEveryRankAFewSmallMessages) {
  const ModelFolder model(16, 8);
  const DryRunTraffic rank_0 = start_up(large, 0, model.path());
  const DryRunTraffic rank_1 = start_up(large, 1, model.path());
  const std::int64_t messages = rank_0.messages - rank_1.messages;
  const std::int64_t bytes = rank_0.bytes - rank_1.bytes;
  fmt::print("rank 0 hears {} messages of {} bytes more than the others\n", messages, bytes);
  EXPECT_LE(messages, 10 * large.ranks());
  EXPECT_LE(bytes, 2048 * large.ranks());
}

TEST(Scale, PlanningEveryGridOf1024RanksIsQuick) {
  const ModelFolder model(80, 64);
  const JobPlan plan =
      plan_job(dry_run_world({.rank = 0, .size = 1}), config_for({1, 1, 1}, model.path()));
  const auto start = std::chrono::steady_clock::now();
  const std::vector<GridPlan> grids =
      plan_grids(plan.model, {1024, ranks_per_host, true}, GridConfig(), plan.options);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_GT(grids.size(), 10U);
  EXPECT_LT(elapsed.count(), 20.0);  // half a second, on a machine with nothing else to do
}

// --- a step -------------------------------------------------------------------------------------

constexpr int input_tag = 1;
constexpr int result_tag = 2;
constexpr int sequences = 64;
constexpr int prompt_length = 8;
constexpr int output_length = 24;

std::vector<Request> requests() {
  std::vector<Request> all(sequences);
  for (int i = 0; i < sequences; ++i) {
    Request& request = all[static_cast<std::size_t>(i)];
    request.key.offset = 100 * i;
    request.prompt_tokens.assign(prompt_length, 7 + i % 50);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = output_length;
    request.sampling.ignore_eos = true;
  }
  return all;
}

class ListSource : public RequestSource {
 public:
  bool take(std::vector<Request>& out, std::size_t limit) override {
    if (next_ == requests_.size()) return false;
    for (; limit > 0 && next_ < requests_.size(); --limit) out.push_back(requests_[next_++]);
    return true;
  }
  bool wait(std::chrono::milliseconds) override { return true; }

 private:
  std::vector<Request> requests_ = requests();
  std::size_t next_ = 0;
};

class NoSink : public ResultSink {
 public:
  void put(FinishedRequest&& request) override {
    EXPECT_EQ(request.error, "");
    ++requests_done;
  }
  int requests_done = 0;
};

// The replica's other ranks: they hear the inputs, or make them up, and draw the same token always.
class Others {
 public:
  explicit Others(const SchedulerConfig& config) : scheduler_(config) {}

  void hear(const StepInput& input) {
    if (input.step == static_cast<std::int64_t>(inputs_.size())) inputs_.push_back(input);
  }

  // All requests in the first step, and no more.
  StepInput next_input() {
    StepInput input;
    input.step = static_cast<std::int64_t>(inputs_.size());
    if (input.step == 0) {
      input.drain = true;
      for (Request& request : requests()) {
        input.admissions.push_back(std::make_shared<const Request>(std::move(request)));
      }
    }
    inputs_.push_back(input);
    return input;
  }

  StepResult next_result() {
    while (results_.empty()) advance();
    StepResult result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

 private:
  void advance() {
    updates_.clear();
    const auto step = static_cast<std::size_t>(scheduler_.next_step());
    scheduler_.apply(inputs_.at(step), updates_);
    if (scheduler_.expects_result()) {
      scheduler_.apply(in_flight_.front(), updates_);
      in_flight_.pop_front();
    }
    const BatchPlan& plan = scheduler_.schedule();
    if (plan.empty()) return;
    StepResult result;
    result.step = plan.step;
    result.tokens.assign(plan.samples.size(), 5);
    in_flight_.push_back(result);
    results_.push_back(std::move(result));
  }

  Scheduler scheduler_;
  std::vector<SequenceUpdate> updates_;
  std::deque<StepInput> inputs_;
  std::deque<StepResult> in_flight_;
  std::deque<StepResult> results_;
};

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct StepCost {
  double messages = 0;
  double bytes = 0;
  double seconds = 0;  // of this thread
};

// The mean step of one rank. Every rank has one layer with one head, whatever the grid.
StepCost run_rank(const GridShape& shape, int number) {
  const ModelFolder folder(shape.pipeline, shape.tensor);
  const ModelDescription model = describe_model(find_model(folder.path()));
  const SchedulerConfig config{.max_num_batched_tokens = 256,
                               .max_num_seqs = sequences,
                               .max_model_len = 64,
                               .block_size = 16,
                               .num_blocks = 4 * sequences,
                               .lag = shape.pipeline - 1,
                               .lookahead = 0,
                               .eos_token_ids = model.spec.eos_token_ids};
  Others others(config);
  DryRunTraffic traffic;
  const Comm world = dry_run_world({.rank = number,
                                    .size = shape.ranks(),
                                    .ranks_per_host = ranks_per_host,
                                    .traffic = &traffic,
                                    .on_send =
                                        [&](int, int tag, const Bytes& bytes) {
                                          if (number == 0 && tag == input_tag)
                                            others.hear(decode_step_input(bytes));
                                        },
                                    .on_receive =
                                        [&](int, int tag) {
                                          return tag == result_tag
                                                     ? encode(others.next_result(), false)
                                                     : encode(others.next_input());
                                        }});
  const Grid grid(world, shape);
  const RankSlices slices = partition(model.spec, shape, grid.coordinates());
  const auto checkpoint = make_dummy_checkpoint(model, 1);
  const RankWeights weights =
      load_weights(model, *checkpoint, slices, {.device = Device::cpu(), .max_positions = 64}, {});
  ListSource source;
  NoSink sink;
  ReplicaParameters parameters;
  parameters.max_num_batched_tokens = config.max_num_batched_tokens;
  parameters.max_num_seqs = config.max_num_seqs;
  parameters.max_model_len = config.max_model_len;
  parameters.block_size = config.block_size;
  parameters.num_blocks = config.num_blocks;
  parameters.source = &source;
  parameters.sink = &sink;
  Replica replica(model.spec, slices, weights, grid, parameters);
  traffic = {};
  const double start = thread_seconds();
  replica.run();
  const double elapsed = thread_seconds() - start;
  EXPECT_EQ(sink.requests_done, grid.is_leader() ? sequences : 0);
  const auto steps = static_cast<double>(replica.times().steps);
  return {static_cast<double>(traffic.messages) / steps, static_cast<double>(traffic.bytes) / steps,
          elapsed / steps};
}

StepCost best_of(int runs, const GridShape& shape, int number) {
  StepCost best = run_rank(shape, number);
  for (int run = 1; run < runs; ++run) {
    best.seconds = std::min(best.seconds, run_rank(shape, number).seconds);
  }
  return best;
}

TEST(Scale, AStepCostsARankAsMuchOn1024RanksAsOn8) {
  const int last_stage_of_small = rank_of({0, small.pipeline - 1, 0}, small);
  const int last_stage_of_large = rank_of({0, large.pipeline - 1, 0}, large);
  struct Place {
    const char* name;
    int few, many;
  };
  for (const Place& place : {Place{"leader", 0, 0}, Place{"beside the leader", 1, 1},
                             Place{"last stage", last_stage_of_small, last_stage_of_large}}) {
    const StepCost on_small = best_of(3, small, place.few);
    const StepCost on_large = best_of(3, large, place.many);
    const std::string costs = fmt::format(
        "{}: {:.1f} messages, {:.0f} bytes, {:.1f} us a step on 1,024 ranks; "
        "{:.1f}, {:.0f}, {:.1f} on 8",
        place.name, on_large.messages, on_large.bytes, 1e6 * on_large.seconds, on_small.messages,
        on_small.bytes, 1e6 * on_small.seconds);
    SCOPED_TRACE(costs);
    fmt::print("{}\n", costs);
    // A rank in the middle of a deep pipeline also passes inputs and results on, and its
    // activations.
    EXPECT_LE(on_large.messages, on_small.messages + 10);
    EXPECT_LE(on_large.bytes, 1.5 * on_small.bytes + 1000);
    EXPECT_LE(on_large.seconds, 3 * on_small.seconds + 100e-6);
  }
}

}  // namespace
}  // namespace millrace
