#include "core/engine/step_trace.hpp"

namespace millrace {

namespace {

// More than the steps that are ever in flight, so that reading times does not wait.
constexpr std::size_t marks_kept = 8;

StepRecord describe(const BatchPlan& plan) {
  StepRecord record{.tokens = plan.num_tokens(),
                    .samples = plan.num_samples(),
                    .decode_sequences = plan.decode_sequences};
  for (std::size_t i = 0; i < plan.kv_lengths.size(); ++i) {
    const std::int64_t keys = plan.kv_lengths[i];
    const std::int64_t queries = plan.query_starts[i + 1] - plan.query_starts[i];
    if (i < static_cast<std::size_t>(plan.decode_sequences)) {
      record.decode_keys += keys;
    } else {
      record.prompt_pairs += queries * (keys - queries) + queries * (queries + 1) / 2;
    }
  }
  return record;
}

}  // namespace

StepTrace::StepTrace(Device device) {
  for (std::size_t i = 0; i < marks_kept; ++i) {
    marks_.push_back({Event(device, Event::Kind::timed), Event(device, Event::Kind::timed)});
  }
}

void StepTrace::begin(const BatchPlan& plan, bool replayed, Stream stream) {
  const std::size_t step = records_.size();
  if (step + 2 > marks_kept) read_times(step + 2 - marks_kept);
  records_.push_back(describe(plan));
  records_.back().replayed = replayed;
  marks_of(step).begin.record(stream);
}

void StepTrace::end(Stream stream) { marks_of(records_.size() - 1).end.record(stream); }

const std::vector<StepRecord>& StepTrace::records() {
  read_times(records_.size());
  return records_;
}

void StepTrace::read_times(std::size_t until) {
  for (; timed_ < until; ++timed_) {
    const Marks& marks = marks_of(timed_);
    marks.end.wait();
    records_[timed_].busy_seconds = marks.end.seconds_since(marks.begin);
    if (timed_ > 0) {
      records_[timed_].idle_seconds = marks.begin.seconds_since(marks_of(timed_ - 1).end);
    }
  }
}

}  // namespace millrace
