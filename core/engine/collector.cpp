#include "core/engine/collector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/text/detokenizer.hpp"
#include "core/text/tokenizer.hpp"

namespace millrace {

namespace {

struct StopMatch {
  std::size_t begin = std::string::npos;
  std::size_t end = 0;
  const std::string* stop = nullptr;
};

// The stop string that begins first, of several there the one listed first. Only text from
// `unsearched` on is new since the last search; nothing before `earliest` counts.
StopMatch find_stop(std::string_view text, std::size_t unsearched, std::size_t earliest,
                    const std::vector<std::string>& stops) {
  StopMatch match;
  for (const std::string& stop : stops) {
    const std::size_t overlap = std::min(unsearched, stop.size() - 1);
    const std::size_t begin = text.find(stop, std::max(unsearched - overlap, earliest));
    if (begin < match.begin) match = {begin, begin + stop.size(), &stop};
  }
  return match;
}

std::string refusal(const Sequence& sequence, std::int64_t cache_tokens) {
  const std::int32_t prompt = sequence.prompt_length();
  if (prompt == 0) return "the prompt has no tokens";
  if (sequence.output_limit < 1) {
    return fmt::format("{} prompt tokens leave no room for a new one below the model's length",
                       prompt);
  }
  return fmt::format(
      "{} prompt tokens and up to {} new ones need more than the {} tokens of the KV cache", prompt,
      sequence.output_limit, cache_tokens);
}

}  // namespace

struct Collector::RequestRecord {
  std::shared_ptr<const Request> request;
  FinishedRequest finished;
  std::int32_t unfinished = 0;  // completions
};

struct Collector::Watch {
  std::optional<Detokenizer> detokenizer;  // when there are stop strings
  std::string text;
  std::size_t earliest_stop = 0;  // text of the first min_tokens tokens cannot stop
  std::vector<TokenLogprobs> logprobs;
};

Collector::Collector(const Tokenizer* tokenizer, ResultSink& sink, std::int64_t cache_tokens,
                     std::function<double()> seconds)
    : tokenizer_(tokenizer),
      sink_(sink),
      cache_tokens_(cache_tokens),
      seconds_(std::move(seconds)) {}

Collector::~Collector() = default;

void Collector::arrived(std::shared_ptr<const Request> request) {
  auto record = std::make_unique<RequestRecord>();
  record->finished.key = request->key;
  record->finished.index = request->index;
  record->finished.line_bytes = request->line_bytes;
  record->finished.id = request->id;
  record->finished.arrived_seconds = seconds_();
  record->unfinished = request->sampling.n;
  record->finished.completions.resize(static_cast<std::size_t>(request->sampling.n));
  const Request* key = request.get();
  record->request = std::move(request);
  requests_.emplace(key, std::move(record));
}

void Collector::refused(Request&& request) {
  FinishedRequest finished;
  finished.key = request.key;
  finished.index = request.index;
  finished.line_bytes = request.line_bytes;
  finished.id = std::move(request.id);
  finished.prompt_token_ids = std::move(request.prompt_tokens);
  finished.error = std::move(request.error);
  finished.arrived_seconds = finished.finished_seconds = seconds_();
  put(std::move(finished));
}

void Collector::collect(std::span<const SequenceUpdate> updates,
                        std::span<TokenLogprobs> logprobs) {
  for (const SequenceUpdate& update : updates) {
    if (update.kind == SequenceUpdate::Kind::token) {
      const auto row = static_cast<std::size_t>(update.row);
      take_token(update, logprobs.empty() ? nullptr : &logprobs[row]);
      continue;
    }
    const Sequence& sequence = *update.sequence;
    RequestRecord& record = *requests_.at(sequence.request.get());
    if (update.kind == SequenceUpdate::Kind::refused) {
      record.finished.error = refusal(sequence, cache_tokens_);
    } else {
      record.finished.error = fmt::format(
          "no token could be drawn at position {}: the model's logits are not numbers, or "
          "all are masked",
          sequence.known());
    }
    watches_.erase(sequence.number);
    Completion completion;
    completion.number = update.sequence->completion;
    completion.finish_reason = update.reason;
    finish_completion(record, std::move(completion));
  }
}

void Collector::take_token(const SequenceUpdate& update, TokenLogprobs* logprobs) {
  const Sequence& sequence = *update.sequence;
  const SamplingParams& sampling = sequence.request->sampling;
  const bool is_first = sequence.outputs() == 1;
  ++output_tokens_;
  if (is_first && sequence.completion == 0) prompt_tokens_ += sequence.prompt_length();
  if (is_first) {
    double& first = requests_.at(sequence.request.get())->finished.first_token_seconds;
    if (first == 0) first = seconds_();
  }

  // Most sequences need nothing until their end.
  const bool has_stops = !sampling.stop.empty() && tokenizer_ != nullptr;
  Watch* watch = nullptr;
  if (has_stops || sampling.logprobs >= 0) {
    auto& owner = watches_[sequence.number];
    if (!owner) {
      owner = std::make_unique<Watch>();
      if (has_stops) owner->detokenizer.emplace(*tokenizer_, sampling.skip_special_tokens);
    }
    watch = owner.get();
    if (logprobs != nullptr && sampling.logprobs >= 0) {
      watch->logprobs.push_back(std::move(*logprobs));
    }
  }

  // The token that stops a sequence is part of its text only on request.
  const bool hides_last = update.finished && update.reason == FinishReason::stop &&
                          !sampling.include_stop_str_in_output;
  StopMatch match;
  if (has_stops) {
    const std::size_t unsearched = watch->text.size();
    if (!hides_last) watch->text += watch->detokenizer->push(sequence.tokens.back());
    if (update.finished) watch->text += watch->detokenizer->finish();
    if (sequence.outputs() <= sampling.min_tokens) {
      watch->earliest_stop = watch->text.size();
    } else {
      match = find_stop(watch->text, unsearched, watch->earliest_stop, sampling.stop);
    }
  }
  if (!update.finished && match.stop == nullptr) return;

  const auto outputs = sequence.output_tokens();
  Completion completion;
  completion.number = sequence.completion;
  completion.token_ids.assign(outputs.begin(), outputs.end());
  completion.finish_reason = update.reason;
  if (match.stop != nullptr) {
    watch->text.resize(sampling.include_stop_str_in_output ? match.end : match.begin);
    completion.finish_reason = FinishReason::stop;
    completion.stop_reason = *match.stop;
    if (!update.finished) endings_.push_back(sequence.number);
  } else if (update.reason == FinishReason::stop && !update.stopped_by_eos) {
    completion.stop_reason = std::to_string(sequence.tokens.back());
  }
  completion.text = has_stops ? std::move(watch->text) : text_of(sequence, hides_last);
  if (watch != nullptr) {
    completion.logprobs = std::move(watch->logprobs);
    watches_.erase(sequence.number);
  }
  finish_completion(*requests_.at(sequence.request.get()), std::move(completion));
}

std::string Collector::text_of(const Sequence& sequence, bool without_last) const {
  if (tokenizer_ == nullptr) return {};
  auto tokens = sequence.output_tokens();
  if (without_last) tokens = tokens.first(tokens.size() - 1);
  return tokenizer_->decode(tokens, sequence.request->sampling.skip_special_tokens);
}

void Collector::finish_completion(RequestRecord& record, Completion&& completion) {
  auto& place = record.finished.completions[static_cast<std::size_t>(completion.number)];
  place = std::move(completion);
  if (--record.unfinished > 0) return;
  FinishedRequest finished = std::move(record.finished);
  finished.prompt_token_ids = record.request->prompt_tokens;
  finished.finished_seconds = seconds_();
  if (!finished.error.empty()) finished.completions.clear();
  requests_.erase(record.request.get());
  put(std::move(finished));
}

void Collector::put(FinishedRequest&& finished) {
  ++requests_done_;
  if (!finished.error.empty()) ++requests_failed_;
  sink_.put(std::move(finished));
}

std::vector<std::int64_t> Collector::take_endings() { return std::exchange(endings_, {}); }

}  // namespace millrace
