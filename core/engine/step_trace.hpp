// What the steps of a run were and how long the device took for each: the measured side of a
// roofline (bench/throughput).
#pragma once

#include <cstdint>
#include <vector>

#include "core/batch/batch_plan.hpp"
#include "kernels/base/event.hpp"

namespace millrace {

struct StepRecord {
  std::int32_t tokens = 0;
  std::int32_t samples = 0;
  std::int32_t decode_sequences = 0;  // that run one token
  std::int64_t decode_keys = 0;       // that these read, all together
  std::int64_t prompt_pairs = 0;      // (query, visible key) of all other tokens, windows aside
  bool replayed = false;              // as a recorded graph
  double busy_seconds = 0;            // from the step's first op to its last
  double idle_seconds = 0;            // of the device before it, since the step before
};

class StepTrace {
 public:
  explicit StepTrace(Device device);

  // Around the ops of a step, in the stream's order.
  void begin(const BatchPlan& plan, bool replayed, Stream stream);
  void end(Stream stream);

  // All steps so far; waits for the device.
  const std::vector<StepRecord>& records();

 private:
  struct Marks {
    Event begin;
    Event end;
  };
  Marks& marks_of(std::size_t step) { return marks_[step % marks_.size()]; }
  void read_times(std::size_t until);

  std::vector<Marks> marks_;  // of the last steps
  std::vector<StepRecord> records_;
  std::size_t timed_ = 0;  // records that have their times
};

}  // namespace millrace
