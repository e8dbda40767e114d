#include "test/core/engine/run_engine.hpp"

#include <algorithm>
#include <thread>

#include "core/model/model_folder.hpp"
#include "core/model/quantization.hpp"
#include "core/weights/checkpoint.hpp"
#include "core/weights/loader.hpp"

namespace millrace::test {

namespace {

// Gives the requests a few at a time, as a reader would that is no faster than the engine.
class ListSource : public RequestSource {
 public:
  ListSource(std::vector<Request> requests, std::size_t at_a_time, bool endless)
      : requests_(std::move(requests)), at_a_time_(at_a_time), endless_(endless) {}

  bool take(std::vector<Request>& out, std::size_t limit) override {
    if (next_ == requests_.size()) return endless_;
    for (std::size_t n = std::min(limit, at_a_time_); n > 0 && next_ < requests_.size(); --n) {
      out.push_back(requests_[next_++]);
    }
    return true;
  }
  bool wait(std::chrono::milliseconds at_most) override {
    if (next_ < requests_.size() || !endless_) return true;
    std::this_thread::sleep_for(at_most);
    return false;
  }

 private:
  std::vector<Request> requests_;
  std::size_t at_a_time_;
  bool endless_;
  std::size_t next_ = 0;
};

class ListSink : public ResultSink {
 public:
  void put(FinishedRequest&& request) override { finished.push_back(std::move(request)); }
  std::vector<FinishedRequest> finished;
};

EngineRun run(const Comm& world, const ModelDescription& model, Checkpoint& checkpoint,
              const EngineOptions& options, const std::vector<Request>& requests) {
  std::optional<Grid> made;
  const Device device = options.device;
  if (options.bound_grid == nullptr) made.emplace(world, options.grid).bind(device);
  const Grid& grid = made ? *made : *options.bound_grid;
  const DType dtype = options.dtype.value_or(model.spec.dtype);
  const RankSlices slices = partition(model.spec, options.grid, grid.coordinates());
  const OwnedStream loading(device);
  const RankWeights weights = load_weights(
      model, checkpoint, slices,
      {.dtype = dtype, .device = device, .max_positions = options.max_model_len}, loading.stream());
  std::vector<Request> mine;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto replica = static_cast<int>(i) % options.grid.data;
    if (replica == grid.coordinates().data) mine.push_back(requests[i]);
  }
  ListSource source(std::move(mine), options.requests_at_a_time, options.endless);
  ListSink sink;
  EngineRun result;
  result.is_leader = grid.is_leader();
  ReplicaParameters parameters;
  parameters.max_num_batched_tokens = options.max_num_batched_tokens;
  parameters.max_num_seqs = options.max_num_seqs;
  parameters.max_model_len = options.max_model_len;
  parameters.block_size = options.block_size;
  parameters.num_blocks = options.num_blocks;
  parameters.memory_bytes = device_memory_bytes(device) / 2;
  parameters.device = device;
  parameters.activation_dtype = device.is_cuda() ? dtype : DType::f32;
  parameters.cache_dtype = options.cache_dtype.value_or(parameters.activation_dtype);
  StepTrace trace(device);
  parameters.trace = &trace;
  parameters.forecast = options.forecast;
  parameters.seed = options.seed;
  parameters.tokenizer = options.tokenizer;
  parameters.source = &source;
  parameters.sink = &sink;
  parameters.stop = options.stop;
  parameters.on_step = [&](const ReplicaProgress& progress) {
    result.last = progress;
    if (options.on_step) options.on_step(progress);
  };
  Replica replica(model.spec, slices, weights, grid, parameters);
  replica.run();
  result.times = replica.times();
  if (result.is_leader) {
    result.is_complete = replica.is_complete();
    result.dropped = replica.dropped();
  }
  result.memory = replica.memory();
  result.steps = trace.records();
  result.finished = std::move(sink.finished);
  std::ranges::sort(result.finished, {}, &FinishedRequest::index);
  return result;
}

}  // namespace

EngineRun run_engine(const Comm& world, const std::filesystem::path& path,
                     const EngineOptions& options, const std::vector<Request>& requests) {
  const ModelFiles files = find_model(path.string());
  ModelDescription model = describe_model(files);
  if (options.quantize_at_load) quantize_at_load(model);
  return run(world, model, *open_checkpoint(files), options, requests);
}

EngineRun run_dummy_engine(const Comm& world, const ModelDescription& model,
                           const EngineOptions& options, const std::vector<Request>& requests) {
  return run(world, model, *make_dummy_checkpoint(model, 1), options, requests);
}

}  // namespace millrace::test
