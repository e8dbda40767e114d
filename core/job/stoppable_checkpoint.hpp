// A checkpoint whose reading ends, with Stopped, as soon as the job is asked to stop: weights may
// take longer to load than a job that stops has.
#pragma once

#include <memory>

#include "comm/stop_request.hpp"
#include "core/weights/checkpoint.hpp"

namespace millrace {

class StoppableCheckpoint final : public Checkpoint {
 public:
  StoppableCheckpoint(std::unique_ptr<Checkpoint> checkpoint, const StopRequest& stop)
      : checkpoint_(std::move(checkpoint)), stop_(stop) {}

  std::string describe() const override { return checkpoint_->describe(); }
  const CheckpointTensor* find(std::string_view tensor) const override {
    return checkpoint_->find(tensor);
  }
  void read(const CheckpointTensor& tensor, Range rows, Range columns,
            const TensorView& out) override {
    stop_.throw_if_made();
    checkpoint_->read(tensor, rows, columns, out);
    bytes_read_ = checkpoint_->bytes_read();
  }
  const WeightMaker* maker() const override { return checkpoint_->maker(); }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  const StopRequest& stop_;
};

}  // namespace millrace
