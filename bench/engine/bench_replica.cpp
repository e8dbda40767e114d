// One replica on all ranks: tokens per second, and which part of the time each rank waited for
// others.
//
//   mpirun -n 2 bench_replica MODEL --pipeline 2 [--requests 64] [--prompt 64] [--output 64]
//
// The model is read as f32, or made up from its config with --dummy; prompts are made up; greedy,
// EOS ignored. The tensor size is ranks / pipeline. Prints one line per rank, on rank 0.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "comm/run_main.hpp"
#include "core/engine/replica.hpp"
#include "core/model/model_folder.hpp"
#include "core/weights/checkpoint.hpp"
#include "core/weights/loader.hpp"

namespace millrace {
namespace {

class MadeUpSource : public RequestSource {
 public:
  MadeUpSource(int requests, int prompt, int output, std::int64_t vocab)
      : requests_(requests), prompt_(prompt), output_(output), vocab_(vocab) {}

  bool take(std::vector<Request>& out, std::size_t limit) override {
    if (next_ == requests_) return false;
    for (; limit > 0 && next_ < requests_; --limit, ++next_) {
      Request& request = out.emplace_back();
      request.key.offset = next_;
      for (int t = 0; t < prompt_; ++t) {
        request.prompt_tokens.push_back(
            static_cast<std::int32_t>((t * 7919 + next_ * 31) % vocab_));
      }
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = output_;
    }
    return true;
  }
  bool wait(std::chrono::milliseconds) override { return true; }

 private:
  int requests_, prompt_, output_;
  std::int64_t vocab_;
  int next_ = 0;
};

class NoSink : public ResultSink {
 public:
  void put(FinishedRequest&&) override {}
};

int run(const Environment& environment, int argc, char** argv) {
  namespace po = boost::program_options;
  std::string model_path;
  int pipeline = 1, requests = 64, prompt = 64, output = 64, max_num_seqs = 64;
  po::options_description flags;
  flags.add_options()("model", po::value(&model_path)->required())(
      "pipeline", po::value(&pipeline))("requests", po::value(&requests))(
      "prompt", po::value(&prompt))("output", po::value(&output))(
      "max-num-seqs", po::value(&max_num_seqs))("dummy", "make the weights up");
  po::positional_options_description positional;
  positional.add("model", 1);
  po::variables_map given;
  po::store(po::command_line_parser(argc, argv).options(flags).positional(positional).run(), given);
  po::notify(given);

  const Comm& world = environment.world();
  const Grid grid(world, {.data = 1, .pipeline = pipeline, .tensor = world.size() / pipeline});
  const ModelFiles files = find_model(model_path);
  const ModelDescription model = describe_model(files);
  const RankSlices slices = partition(model.spec, grid.shape(), grid.coordinates());
  const auto checkpoint =
      given.contains("dummy") ? make_dummy_checkpoint(model, 1) : open_checkpoint(files);
  const std::int64_t length = prompt + output + 1;
  const RankWeights weights = load_weights(
      model, *checkpoint, slices,
      {.dtype = DType::f32, .device = Device::cpu(), .max_positions = length}, Stream());
  MadeUpSource source(requests, prompt, output, model.spec.vocab_size);
  NoSink sink;
  ReplicaProgress last;
  ReplicaParameters parameters;
  parameters.max_num_seqs = max_num_seqs;
  parameters.max_model_len = static_cast<std::int32_t>(length);
  parameters.num_blocks = (length / parameters.block_size + 2) * max_num_seqs;
  parameters.source = &source;
  parameters.sink = &sink;
  parameters.on_step = [&](const ReplicaProgress& progress) { last = progress; };
  Replica replica(model.spec, slices, weights, grid, parameters);
  replica.run();

  const Replica::Times times = replica.times();
  const GridCoordinates at = grid.coordinates();
  const std::string line =
      fmt::format("rank {} stage {} tensor {}: {} steps, {:.2f} s, waited {:.1f} %\n", world.rank(),
                  at.pipeline, at.tensor, times.steps, times.running_seconds,
                  100 * times.waiting_seconds / times.running_seconds);
  for (const Bytes& bytes : world.gather_bytes(as_bytes(line), 0)) fmt::print("{}", as_text(bytes));
  if (world.rank() == 0) {
    fmt::print("{}: {:.1f} output tokens/s, {} preemptions\n", to_string(grid.shape()),
               static_cast<double>(last.output_tokens) / times.running_seconds, last.preemptions);
  }
  return 0;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  return millrace::run_main("bench_replica", [&](const millrace::Environment& environment) {
    return millrace::run(environment, argc, argv);
  });
}
