// Output tokens per second of a model's shape on made-up weights and made-up requests, beside the
// least time that this machine's ceilings allow (roofline.hpp).
//
//   bench_throughput --model SHAPE_OR_CHECKPOINT [--workload 1000/1000x3000]... [--workload
//     lognormal:220/200x1000] [--decode-batches 1,16,64,256] [--time-limit SECONDS]
//     [--steady-from SECONDS] [--csv FILE] [flags of millrace]
//
// A SHAPE is a folder with a config.json, as in shapes/. Also under mpirun, with millrace's grid
// flags.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>

#include "bench/throughput/run.hpp"
#include "comm/agree.hpp"
#include "comm/run_main.hpp"
#include "core/config/run_config.hpp"
#include "core/job/log.hpp"
#include "core/job/matmul_plans.hpp"
#include "kernels/base/error.hpp"

namespace millrace::bench {
namespace {

constexpr int decode_steps = 96;  // of each of --decode-batches

struct Options {
  RunConfig config;
  std::vector<Workload> workloads;
  std::vector<int> decode_batches;
  int context = 0;                 // of these
  int time_limit = 0;              // of a workload, seconds; 0: none
  std::optional<int> steady_from;  // seconds
  std::string csv;
};

std::vector<Flag> flags_of(Options& options) {
  const std::string group = "Workload";
  std::vector<Flag> flags{
      {group, "workload", "", Flag::Kind::repeated, "SPEC", "",
       "PROMPT/OUTPUTxREQUESTS or lognormal:PROMPT/OUTPUTxREQUESTS (means); may be repeated.",
       [&](const FlagValue& value) { options.workloads.push_back(parse_workload(value.text())); }},
      {group, "decode-batches", "", Flag::Kind::value, "N,N,...", "",
       "Also time decode steps of these many sequences.",
       [&](const FlagValue& value) { options.decode_batches = value.integers(1); }},
      {group, "context", "", Flag::Kind::value, "N", "1024", "Tokens of these sequences, about.",
       [&](const FlagValue& value) {
         options.context = static_cast<int>(value.integer(decode_steps, 1 << 24));
       }},
      {group, "time-limit", "", Flag::Kind::value, "SECONDS", "0",
       "End each workload after so long, and report what was run until then; 0: never.",
       [&](const FlagValue& value) {
         options.time_limit = static_cast<int>(value.integer(0, 1 << 24));
       }},
      {group, "steady-from", "", Flag::Kind::value, "SECONDS", "",
       "Also say how fast the steps were that began so late, up to the last prompts' step: for "
       "runs "
       "too short for their start and end not to count.",
       [&](const FlagValue& value) {
         options.steady_from = static_cast<int>(value.integer(0, 1 << 24));
       }},
      {group, "csv", "", Flag::Kind::value, "FILE", "", "Append a line per workload to this file.",
       [&](const FlagValue& value) { options.csv = value.text(); }}};
  const auto take = [&](std::vector<Flag> more) {
    std::ranges::move(more, std::back_inserter(flags));
  };
  take(model_flags(options.config.model));
  take(grid_flags(options.config.grid));
  take(engine_flags(options.config.engine));
  return flags;
}

void print(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

// At load, or in the checkpoint.
bool is_fp8(const JobPlan& plan) { return plan.model.spec.weight_scaling != Fp8Scaling::none; }

std::string_view weights_name(const JobPlan& plan) {
  return is_fp8(plan) ? "fp8" : name(plan.options.dtype);
}

// Where the device's time went, by what kind of step it was.
void print_steps(const WorkloadRun& run, const Engine& engine) {
  struct Kind {
    const char* name;
    bool (*has)(const StepRecord&);
  };
  const auto is_decode = [](const StepRecord& s) { return s.tokens == s.decode_sequences; };
  static const auto decode = is_decode;
  constexpr Kind kinds[] = {
      {"decode, replayed", [](const StepRecord& s) { return decode(s) && s.replayed; }},
      {"decode, op by op", [](const StepRecord& s) { return decode(s) && !s.replayed; }},
      {"with prompts", [](const StepRecord& s) { return !decode(s); }}};
  print(fmt::format("  {:<18} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}", "steps", "count",
                    "tokens", "samples", "busy s", "idle s", "roofline", "busy/step"));
  for (const Kind& kind : kinds) {
    std::int64_t count = 0, tokens = 0, samples = 0;
    double busy = 0, idle = 0, roofline = 0;
    for (const StepRecord& step : run.steps) {
      if (!kind.has(step)) continue;
      ++count;
      tokens += step.tokens;
      samples += step.samples;
      busy += step.busy_seconds;
      idle += step.idle_seconds;
      roofline += roofline_seconds(step, engine.cost, engine.replica);
    }
    if (count == 0) continue;
    print(fmt::format("  {:<18} {:>7} {:>9} {:>9} {:>9.3f} {:>9.3f} {:>8.1f}% {:>7.3f} ms",
                      kind.name, count, tokens, samples, busy, idle, 100 * roofline / (busy + idle),
                      1e3 * busy / static_cast<double>(count)));
  }
}

double busy_fraction(const WorkloadRun& run) {
  double busy = 0, idle = 0;
  for (const StepRecord& step : run.steps) {
    busy += step.busy_seconds;
    idle += step.idle_seconds;
  }
  return busy / std::max(busy + idle, 1e-9);
}

// The steps from `from` seconds on, to the last one with prompts, beside an ideal schedule of the
// whole workload: how a long run would go on.
void print_steady(const WorkloadRun& run, const Engine& engine, double from) {
  double now = 0, begin = 0, end = 0, roofline = 0, roofline_until = 0;
  std::int64_t count = 0, tokens = 0, samples = 0, tokens_until = 0, samples_until = 0, until = 0;
  for (const StepRecord& step : run.steps) {
    now += step.idle_seconds + step.busy_seconds;
    if (now < from) {
      begin = end = now;
      continue;
    }
    ++count;
    tokens += step.tokens;
    samples += step.samples;
    roofline += roofline_seconds(step, engine.cost, engine.replica);
    if (step.tokens == step.decode_sequences) continue;
    end = now;
    until = count;
    tokens_until = tokens;
    samples_until = samples;
    roofline_until = roofline;
  }
  const double seconds = end - begin;
  if (until == 0 || seconds <= 0) return print("  no steps with prompts so late");
  const double rate = static_cast<double>(samples_until) / seconds;
  print(fmt::format(
      "  from {:.1f} to {:.1f} s, {} steps of {:.0f} tokens: {:.1f} output tokens/s, {:.1f} % of "
      "what an ideal schedule gives ({:.1f}); {:.1f} % of the roofline over these steps",
      begin, end, until, static_cast<double>(tokens_until) / static_cast<double>(until), rate,
      100 * rate / run.ideal_tokens_per_second, run.ideal_tokens_per_second,
      100 * roofline_until / seconds));
}

void report(const Options& options, const Engine& engine, const Workload& workload,
            const WorkloadRun& run) {
  const double rate = static_cast<double>(run.output_tokens) / run.seconds;
  const std::string done =
      run.is_complete
          ? fmt::format(", {:.1f} % over an ideal schedule ({:.2f} s)",
                        100 * run.ideal_seconds / run.seconds, run.ideal_seconds)
          : fmt::format("; ENDED BY THE TIME LIMIT after {} output tokens", run.output_tokens);
  print(fmt::format(
      "{}: {:.1f} output tokens/s, {:.1f} with prompts, in {:.2f} s; {:.1f} % of the roofline over "
      "the steps that were run ({:.2f} s){}",
      workload.name, rate, static_cast<double>(run.output_tokens + run.prompt_tokens) / run.seconds,
      run.seconds, 100 * run.roofline_seconds / run.seconds, run.roofline_seconds, done));
  print(
      fmt::format("  device busy {:.1f} %, host waited {:.1f} % of the time, {} preemptions, "
                  "cache of {} tokens",
                  100 * busy_fraction(run), 100 * run.waited_seconds / run.seconds, run.preemptions,
                  run.cache_tokens));
  print_steps(run, engine);
  if (options.steady_from) print_steady(run, engine, *options.steady_from);
  if (options.csv.empty() || !run.is_complete) return;
  const bool is_new = !std::ifstream(options.csv).good();
  std::ofstream csv(options.csv, std::ios::app);
  if (is_new) {
    csv << "model,dtype,kv_dtype,grid,workload,max_num_seqs,max_num_batched_tokens,cache_tokens,"
           "seconds,output_tokens_per_s,total_tokens_per_s,roofline_run_s,roofline_ideal_s,"
           "busy_fraction,steps,preemptions,copy_bytes_per_s,matmul_flops_per_s\n";
  }
  const PlanOptions& plan = engine.plan.options;
  csv << fmt::format(
      "{},{},{},{},{},{},{},{},{:.3f},{:.1f},{:.1f},{:.3f},{:.3f},{:.4f},{},{},"
      "{:.4g},{:.4g}\n",
      options.config.model.model, weights_name(engine.plan), name(plan.cache_dtype),
      to_string(engine.grid.shape()), workload.name, plan.max_num_seqs, plan.max_num_batched_tokens,
      run.cache_tokens, run.seconds, rate,
      static_cast<double>(run.output_tokens + run.prompt_tokens) / run.seconds,
      run.roofline_seconds, run.ideal_seconds, busy_fraction(run), run.steps.size(),
      run.preemptions, engine.replica.copy_bytes_per_second,
      engine.replica.matmul_flops_per_second);
  if (!csv.flush()) throw UserError("cannot write {}", options.csv);
}

// `requests` sequences that all decode together for decode_steps steps where `batch` of them run,
// though the first begin while the prompts of the others run. Where a step takes more tokens than
// is said here, it only runs for longer.
Workload decode_workload(int requests, int batch, const Options& options) {
  const std::int64_t tokens = options.config.engine.max_num_batched_tokens.value_or(2048);
  const std::int64_t prompt_steps = std::int64_t{batch} * options.context / tokens + 1;
  const std::int64_t outputs = decode_steps + prompt_steps;
  const std::int64_t prompt = std::max<std::int64_t>(1, options.context - outputs / 2);
  return parse_workload(fmt::format("{}/{}x{}", prompt, outputs, requests));
}

// Steps in which each replica decodes `batch` sequences of about `context` tokens: medians.
void report_decode(const Engine& engine, int batch, const Options& options) {
  const Workload workload = decode_workload(batch * engine.grid.shape().data, batch, options);
  const WorkloadRun run = run_workload(engine, workload);
  if (engine.grid.world().rank() != 0) return;
  std::vector<double> seconds, idle, rooflines;
  for (const StepRecord& step : run.steps) {
    if (!step.replayed && engine.plan.device.is_cuda()) continue;
    if (step.tokens != batch || step.decode_sequences != batch) continue;
    seconds.push_back(step.busy_seconds + step.idle_seconds);
    idle.push_back(step.idle_seconds);
    rooflines.push_back(roofline_seconds(step, engine.cost, engine.replica));
  }
  if (seconds.empty()) {
    print(fmt::format("decode, batch {}: no such step (the cache holds {} tokens)", batch,
                      run.cache_tokens));
    return;
  }
  const auto median = [](std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
  };
  const double step = median(seconds);
  const double roofline = median(rooflines);
  print(
      fmt::format("decode, batch {}, context {}: {:.3f} ms a step, of which the device idles "
                  "{:.1f} %; roofline {:.3f} ms: {:.1f} %",
                  batch, options.context, 1e3 * step, 100 * median(idle) / step, 1e3 * roofline,
                  100 * roofline / step));
}

int run(const Environment& environment, std::span<const std::string> arguments) {
  Options options;
  const std::vector<Flag> flags = flags_of(options);
  const Settings settings = read_settings(flags, arguments, process_environment());
  const Comm& world = environment.world();
  if (settings.wants_help) {
    if (world.rank() == 0) {
      print(help_text(flags, "bench_throughput --model SHAPE --workload SPEC [flags]\n"));
    }
    return 0;
  }
  apply_settings(flags, settings.values);
  RunConfig& config = options.config;
  if (config.model.load_format == LoadFormat::automatic) {
    config.model.load_format = LoadFormat::dummy;
  }
  start_log(LogLevel::warning, world.rank() == 0);
  if (!config.model.max_model_len) {
    std::int64_t longest = 0;
    for (const int batch : options.decode_batches) {
      longest = std::max<std::int64_t>(longest, decode_workload(1, batch, options).longest());
    }
    for (const Workload& workload : options.workloads) {
      longest = std::max<std::int64_t>(longest, workload.longest());
    }
    config.model.max_model_len = longest;
  }
  const JobPlan plan = plan_job(world, config);
  if (!options.decode_batches.empty() && plan.grid.shape.pipeline > 1) {
    throw UserError(
        "--decode-batches times steps of whole batches, and pipeline parallel size {} splits them",
        plan.grid.shape.pipeline);
  }
  Grid grid(world, plan.grid.shape);
  grid.bind(plan.device, config.engine.nvls, carried_sum_bytes(plan));
  // Before the weights, while there is room for what is measured.
  const Ceilings ceilings =
      agree(world, [&] { return measure_ceilings(plan.device, plan.options.dtype, is_fp8(plan)); });
  const RankModel rank = load_rank(grid, plan, config, StopRequest());
  prepare_matmul_plans(grid.node(), rank.weights, plan.options, plan.device);
  const double held =
      static_cast<double>(grid.replica().all_reduce_sum(rank.weights.report.weight_bytes));
  // Ranks multiply and copy at the same time, and each card at its own speed.
  const auto of_replica = [&](double rate) {
    return 1e6 * static_cast<double>(
                     grid.replica().all_reduce_sum(static_cast<std::int64_t>(1e-6 * rate)));
  };
  const Engine engine{
      .grid = grid,
      .plan = plan,
      .rank = rank,
      .cost = cost_of(plan.model.spec, held, plan.options.dtype, plan.options.cache_dtype),
      .replica = {of_replica(ceilings.copy_bytes_per_second),
                  of_replica(ceilings.matmul_flops_per_second),
                  of_replica(ceilings.head_flops_per_second)}};
  if (world.rank() == 0) {
    const double ranks = grid.replica().size();
    print(fmt::format(
        "{} on {} ({}), weights {}, KV cache {}; ceilings of a rank: copy {:.0f} GB/s, "
        "matmul {:.1f} TFLOP/s",
        config.model.model, to_string(plan.device), to_string(grid.shape()), weights_name(plan),
        name(plan.options.cache_dtype), 1e-9 * engine.replica.copy_bytes_per_second / ranks,
        1e-12 * engine.replica.matmul_flops_per_second / ranks));
  }
  for (const int batch : options.decode_batches) report_decode(engine, batch, options);
  for (const Workload& workload : options.workloads) {
    const WorkloadRun result = run_workload(engine, workload, options.time_limit);
    if (world.rank() == 0) report(options, engine, workload, result);
  }
  return 0;
}

}  // namespace
}  // namespace millrace::bench

int main(int argc, char** argv) {
  return millrace::run_main("bench_throughput", [&](const millrace::Environment& environment) {
    return millrace::bench::run(environment, millrace::program_arguments(argc, argv));
  });
}
