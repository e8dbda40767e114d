// From tokens to finished requests, on a replica's leader: stop strings, text, logprobs, times.
// What the scheduler decides (EOS, stop tokens, lengths) it only records; what only text shows
// (stop strings) it decides, and reports as endings for the next StepInput.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/batch/scheduler.hpp"
#include "core/engine/result_sink.hpp"

namespace millrace {

class Tokenizer;

class Collector {
 public:
  // `tokenizer` may be null (made-up models): then text stays empty and stop strings never match.
  // `cache_tokens` is what the KV cache holds, for the error of a request that is refused;
  // `seconds` is the run's clock. Tokenizer and sink must outlive the collector.
  Collector(const Tokenizer* tokenizer, ResultSink& sink, std::int64_t cache_tokens,
            std::function<double()> seconds);
  ~Collector();

  // A request that is about to be admitted.
  void arrived(std::shared_ptr<const Request> request);

  // A request that will never be admitted, because of its `error`.
  void refused(Request&& request);

  // What apply() of an input or a result said, with that result's logprobs (empty for an input).
  void collect(std::span<const SequenceUpdate> updates, std::span<TokenLogprobs> logprobs);

  // Sequences whose text has met a stop string since the last call: for the next StepInput.
  std::vector<std::int64_t> take_endings();

  // Totals since the start. Prompt tokens count once per request, when its first token is there.
  std::int64_t prompt_tokens() const { return prompt_tokens_; }
  std::int64_t output_tokens() const { return output_tokens_; }
  std::int64_t requests_done() const { return requests_done_; }
  std::int64_t requests_failed() const { return requests_failed_; }
  // That arrived and have no result: under way, or dropped.
  std::int64_t unanswered() const { return static_cast<std::int64_t>(requests_.size()); }

 private:
  struct RequestRecord;
  struct Watch;  // of a sequence that is looked at token by token

  void take_token(const SequenceUpdate& update, TokenLogprobs* logprobs);
  void finish_completion(RequestRecord& record, Completion&& completion);
  std::string text_of(const Sequence& sequence, bool without_last) const;
  void put(FinishedRequest&& finished);

  const Tokenizer* tokenizer_;
  ResultSink& sink_;
  std::int64_t cache_tokens_;
  std::function<double()> seconds_;
  std::unordered_map<const Request*, std::unique_ptr<RequestRecord>> requests_;
  std::unordered_map<std::int64_t, std::unique_ptr<Watch>> watches_;  // by sequence number
  std::vector<std::int64_t> endings_;
  std::int64_t prompt_tokens_ = 0;
  std::int64_t output_tokens_ = 0;
  std::int64_t requests_done_ = 0;
  std::int64_t requests_failed_ = 0;
};

}  // namespace millrace
