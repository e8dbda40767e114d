// --log-prompts: what is asked and answered, in the log. Without it no text of either is ever
// logged.
#pragma once

#include "core/engine/result_sink.hpp"
#include "core/text/tokenizer.hpp"

namespace millrace {

// Logs answers on their way to another sink.
class PromptLog : public ResultSink {
 public:
  PromptLog(const Tokenizer& tokenizer, ResultSink& next) : tokenizer_(tokenizer), next_(next) {}

  // As the model sees it: rendered and tokenized.
  void prompt(const Request& request) const;
  void put(FinishedRequest&& finished) override;

 private:
  const Tokenizer& tokenizer_;
  ResultSink& next_;
};

}  // namespace millrace
