#include "core/job/replica_job.hpp"

#include <algorithm>
#include <memory>
#include <mutex>

#include "comm/agree.hpp"
#include "comm/work_server.hpp"
#include "core/engine/replica.hpp"
#include "core/io/prompt_reader.hpp"
#include "core/io/spool.hpp"
#include "core/job/progress_board.hpp"
#include "core/job/prompt_log.hpp"

namespace millrace {
namespace {

// That a replica's reader holds where others share the prompts: few, so that the last ranges of the
// file go to whoever is free and not to whoever reads fastest.
constexpr std::size_t shared_queue_requests = 64;

// The engine's numbers of a replica, written by its steps and read by the progress board's thread.
class Counters {
 public:
  explicit Counters(std::int32_t replica) : replica_(replica) {}

  void set_blocks(std::int64_t blocks) {
    const std::scoped_lock lock(mutex_);
    outcome_.counters.blocks = blocks;
  }

  void step(const ReplicaProgress& step) {
    const std::scoped_lock lock(mutex_);
    if (outcome_.first_token_seconds == 0 && step.output_tokens > 0) {
      outcome_.first_token_seconds = step.seconds;
    }
    outcome_.preemptions = step.preemptions;
    outcome_.peak_running = std::max<std::int64_t>(outcome_.peak_running, step.running);
    ProgressCounters& counters = outcome_.counters;
    counters.requests_done = step.requests_done;
    counters.requests_failed = step.requests_failed;
    counters.prompt_tokens = step.prompt_tokens;
    counters.output_tokens = step.output_tokens;
    counters.running = step.running;
    counters.waiting = step.waiting;
    counters.blocks_in_use = step.blocks_in_use;
    timeline_.add({.seconds = step.seconds,
                   .replica = replica_,
                   .running = step.running,
                   .waiting = step.waiting,
                   .prompt_tokens = step.prompt_tokens,
                   .output_tokens = step.output_tokens,
                   .blocks_in_use = step.blocks_in_use,
                   .preemptions = step.preemptions});
  }

  ReplicaOutcome outcome() const {
    const std::scoped_lock lock(mutex_);
    ReplicaOutcome outcome = outcome_;
    outcome.timeline = timeline_.rows();
    return outcome;
  }
  ProgressCounters counters() const {
    const std::scoped_lock lock(mutex_);
    return outcome_.counters;
  }

 private:
  std::int32_t replica_;
  mutable std::mutex mutex_;
  ReplicaOutcome outcome_;
  Timeline timeline_;
};

// The prompt file as the engine's source: one thread takes ranges of it, parses and tokenizes. Made
// on the leaders, before the engine, and started when the engine stands.
class Feed : public RequestSource {
 public:
  Feed(const Grid& grid, const JobPlan& plan, const RunConfig& config, const Journal& journal,
       ModelText text)
      : grid_(grid),
        plan_(plan),
        prompts_(config.input.prompts),
        journal_(journal),
        text_(std::move(text)),
        spool_({.folder = journal.folder,
                .header = header_of(journal, grid.coordinates().data),
                .sync_seconds = config.journal.checkpoint_interval_seconds}) {
    if (config.log.prompts) prompt_log_.emplace(text_.tokenizer, spool_);
  }

  // Collective over the leaders.
  void start() {
    work_.emplace(grid_.leaders(), journal_.work);
    PromptLineParser parser(
        {.format = prompt_format(prompts_),
         .max_model_len = static_cast<std::int32_t>(plan_.options.max_model_len),
         .vocab_size = static_cast<std::int32_t>(plan_.model.spec.vocab_size)},
        plan_.sampling, text_.tokenizer, render_chat());
    PromptReaderOptions options{.path = prompts_};
    if (grid_.shape().data > 1) options.queue_requests = shared_queue_requests;
    reader_.emplace(std::move(options), std::move(parser), [this] { return work_->next(); });
  }

  bool take(std::vector<Request>& out, std::size_t limit) override {
    const std::size_t before = out.size();
    const bool more = reader_->take(out, limit);
    for (std::size_t i = before; prompt_log_ && i < out.size(); ++i) prompt_log_->prompt(out[i]);
    return more;
  }
  bool wait(std::chrono::milliseconds at_most) override { return reader_->wait(at_most); }

  const Tokenizer& tokenizer() const { return text_.tokenizer; }
  SpoolWriter& spool() { return spool_; }
  ResultSink& sink() {
    if (prompt_log_) return *prompt_log_;
    return spool_;
  }
  const PromptReader& reader() const { return *reader_; }

 private:
  static SpoolHeader header_of(const Journal& journal, int replica) {
    SpoolHeader header = journal.header;
    header.replica = replica;
    return header;
  }

  RenderChat render_chat() const {
    if (!text_.chat) {
      return {};
    }
    return
        [this](std::string_view messages, bool add_generation_prompt, std::string_view variables) {
          return text_.chat->render(messages, add_generation_prompt, variables);
        };
  }

  const Grid& grid_;
  const JobPlan& plan_;
  std::string prompts_;
  const Journal& journal_;
  ModelText text_;
  SpoolWriter spool_;
  std::optional<PromptLog> prompt_log_;
  std::optional<WorkClient> work_;  // outlives the reader, whose thread uses it
  std::optional<PromptReader> reader_;
};

KvCacheRow memory_row(const Grid& grid, const RankModel& rank, const Replica& replica) {
  KvCacheRow row;
  row.rank = grid.world().rank();
  row.replica = grid.coordinates().data;
  row.weight_bytes = rank.weights.report.weight_bytes;
  const ReplicaMemory& memory = replica.memory();
  row.activation_bytes = memory.activation_bytes;
  row.cache_bytes = memory.blocks * memory.block_bytes;
  row.block_bytes = memory.block_bytes;
  row.blocks = memory.blocks;
  row.other_bytes = memory.other_bytes;
  return row;
}

}  // namespace

ReplicaOutcome run_replica(const Grid& grid, const JobPlan& plan, const RankModel& rank,
                           std::future<ModelText> text, const RunConfig& config,
                           const Journal& journal, const JobClock& clock, const StopRequest& stop,
                           const std::function<void(const KvCacheRow& memory)>& ready) {
  ReplicaParameters parameters = replica_parameters(plan, rank);
  parameters.seed = config.sampling.seed;
  parameters.start = clock.start();
  std::optional<Feed> feed;
  Counters counters(grid.coordinates().data);
  agree(grid.world(), [&] {
    if (grid.is_leader()) {
      feed.emplace(grid, plan, config, journal, text.get());
      parameters.tokenizer = &feed->tokenizer();
      parameters.source = &*feed;
      parameters.stop = &stop;
      parameters.sink = &feed->sink();
      parameters.on_step = [&counters](const ReplicaProgress& step) { counters.step(step); };
    }
  });
  std::optional<Replica> replica;
  agree(grid.world(), [&] {
    replica.emplace(plan.model.spec, rank.slices, rank.weights, grid, std::move(parameters));
  });
  counters.set_blocks(replica->num_blocks());
  ready(memory_row(grid, rank, *replica));

  const double started_seconds = clock.seconds();
  if (grid.is_leader()) {
    feed->start();
    const bool shows_progress = config.log.level <= LogLevel::info;
    const ProgressBoard board(grid.leaders(), journal.work_bytes,
                              shows_progress ? config.log.progress_interval_seconds : 0, clock,
                              [&] {
                                ProgressCounters now = counters.counters();
                                now.bytes_read = feed->reader().bytes_read();
                                now.lines_read = feed->reader().lines_read();
                                return now;
                              });
    replica->run();
    feed->spool().close();
  } else {
    replica->run();
  }
  ReplicaOutcome outcome = counters.outcome();
  outcome.started_seconds = started_seconds;
  outcome.finished_seconds = clock.seconds();
  if (grid.is_leader()) {
    outcome.is_complete = replica->is_complete();
    outcome.dropped = replica->dropped();
  }
  return outcome;
}

}  // namespace millrace
