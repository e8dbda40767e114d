// Made-up requests: how many, and how long their prompts and outputs are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/engine/request_source.hpp"

namespace millrace::bench {

struct Lengths {
  std::int32_t prompt = 0;
  std::int32_t output = 0;
};

struct Workload {
  std::string name;  // as given
  std::vector<Lengths> requests;

  std::int32_t longest() const;  // prompt and output of one request
};

// "1000/1000x3000": 3,000 requests of 1,000 prompt tokens and 1,000 output tokens.
// "lognormal:220/200x1000": lengths of a log-normal distribution with sigma 1 and these means, at
// least 1 and at most 2,048: as ShareGPT's are; always the same ones. Throws UserError.
Workload parse_workload(const std::string& text);

// The workload's share of replica r of d: every d-th request from the r-th on.
Workload share_of(const Workload& workload, int replica, int replicas);

// Random tokens; greedy, EOS ignored.
class MadeUpSource : public RequestSource {
 public:
  MadeUpSource(const Workload& workload, std::int64_t vocab);

  bool take(std::vector<Request>& out, std::size_t limit) override;
  bool wait(std::chrono::milliseconds) override { return true; }

 private:
  const Workload& workload_;
  std::int64_t vocab_;
  std::size_t next_ = 0;
};

}  // namespace millrace::bench
