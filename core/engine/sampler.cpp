#include "core/engine/sampler.hpp"

#include <algorithm>

#include "kernels/sampling_math.hpp"

namespace millrace {

namespace {

// The best candidates kept per row: the most that a request can ask for.
constexpr std::int64_t top_width = max_logprobs;

template <typename T>
TensorView upload(const Tensor& to, const std::vector<T>& from, Stream stream) {
  copy_bytes(to->data(), to->device(), from.data(), Device::cpu(), from.size() * sizeof(T), stream);
  return to->slice(0, 0, static_cast<std::int64_t>(from.size()));
}

template <typename T>
std::vector<T> download(const TensorView& from, Stream stream) {
  std::vector<T> to(static_cast<std::size_t>(from.numel()));
  copy_bytes(to.data(), Device::cpu(), from.data(), from.device(), to.size() * sizeof(T), stream);
  return to;
}

}  // namespace

Sampler::Sampler(const SamplerParameters& parameters, const Comm& tensor, Device device)
    : shard_(parameters.shard),
      tensor_(tensor),
      device_(device),
      builder_(parameters.max_num_seqs, parameters.seed, parameters.eos_token_ids) {
  const auto column = [&](DType dtype) { return Tensor(dtype, device, {parameters.max_rows}); };
  for (Tensor* t : {&temperature_, &min_p_, &top_p_, &maxima_, &raw_maxima_, &picked_}) {
    *t = column(DType::f32);
  }
  for (Tensor* t : {&top_k_, &positions_, &thresholds_, &prefixes_, &tokens_}) {
    *t = column(DType::i32);
  }
  for (Tensor* t : {&noise_keys_, &remaining_, &candidates_, &raw_masses_, &ranks_}) {
    *t = column(DType::i64);
  }
  histogram_ = Tensor(DType::i64, device, {parameters.max_rows * threshold_bins});
  top_ = Tensor(DType::i64, device, {parameters.max_rows * top_width});
  gathered_top_ = Tensor(DType::i64, device, {tensor.size() * parameters.max_rows * top_width});
}

void Sampler::prepare(std::span<const Sample> samples, Stream stream) {
  builder_.build(samples, rows_);
  sequences_.clear();
  for (const Sample& sample : samples) sequences_.push_back(sample.sequence);
  upload(temperature_, rows_.temperature, stream);
  upload(min_p_, rows_.min_p, stream);
  upload(top_p_, rows_.top_p, stream);
  upload(top_k_, rows_.top_k, stream);
  upload(positions_, rows_.positions, stream);
  upload(noise_keys_, rows_.noise_keys, stream);
  const auto edits = static_cast<std::int64_t>(rows_.edit_rows.size());
  if (edits == 0) return;
  if (edit_rows_->empty() || edit_rows_->numel() < edits) {
    const std::int64_t capacity = std::max<std::int64_t>(2 * edits, 1024);
    edit_rows_ = Tensor(DType::i32, device_, {capacity});
    edit_tokens_ = Tensor(DType::i32, device_, {capacity});
    divide_ = Tensor(DType::f32, device_, {capacity});
    subtract_ = Tensor(DType::f32, device_, {capacity});
    saved_ = Tensor(DType::f32, device_, {capacity});
  }
  upload(edit_rows_, rows_.edit_rows, stream);
  upload(edit_tokens_, rows_.edit_tokens, stream);
  upload(divide_, rows_.divide, stream);
  upload(subtract_, rows_.subtract, stream);
}

void Sampler::draw(const TensorView& logits, Stream stream) {
  const std::int64_t rows = logits.size(0);
  const auto edits = static_cast<std::int64_t>(rows_.edit_rows.size());
  if (rows_.logprobs >= 0) raw_logprobs(logits, stream);

  LogitEdits edit;
  if (edits > 0) {
    edit = {.rows = edit_rows_->slice(0, 0, edits),
            .tokens = edit_tokens_->slice(0, 0, edits),
            .divide = divide_->slice(0, 0, edits),
            .subtract = subtract_->slice(0, 0, edits),
            .saved = saved_->slice(0, 0, edits)};
    apply_edits(logits, shard_, edit, stream);
  }
  const bool cuts = rows_.any_min_p || rows_.any_top_k || rows_.any_top_p;
  if (cuts) find_thresholds(logits, stream);

  const TensorView candidates = candidates_->slice(0, 0, rows);
  const DrawRows draw_rows{.temperature = temperature_->slice(0, 0, rows),
                           .noise_keys = noise_keys_->slice(0, 0, rows),
                           .positions = positions_->slice(0, 0, rows),
                           .thresholds = cuts ? thresholds_->slice(0, 0, rows) : TensorView()};
  draw_candidates(candidates, logits, shard_, draw_rows, stream);
  tensor_.all_reduce_max(candidates, stream);
  drawn_ = tokens_->slice(0, 0, rows);
  unpack_candidates(drawn_, candidates, stream);

  if (edits > 0) undo_edits(logits, shard_, edit, stream);
  if (rows_.logprobs >= 0) chosen_logprobs(logits, stream);
}

// Before anything is changed: the softmax's normaliser and the most likely tokens.
void Sampler::raw_logprobs(const TensorView& logits, Stream stream) {
  const std::int64_t rows = logits.size(0);
  const TensorView maxima = raw_maxima_->slice(0, 0, rows);
  row_max(maxima, logits, shard_, stream);
  tensor_.all_reduce_max(maxima, stream);
  const TensorView masses = raw_masses_->slice(0, 0, rows);
  row_mass(masses, logits, shard_, maxima, stream);
  tensor_.all_reduce_sum(masses, stream);

  const std::int64_t k = rows_.logprobs;
  if (k == 0) return;
  const TensorView top = top_->slice(0, 0, rows * k).reshape({rows, k});
  const TensorView gathered =
      gathered_top_->slice(0, 0, tensor_.size() * rows * k).reshape({tensor_.size(), rows, k});
  top_candidates(top, logits, shard_, stream);
  tensor_.all_gather(gathered, top, stream);
  merge_candidates(top, gathered, stream);
}

void Sampler::find_thresholds(const TensorView& logits, Stream stream) {
  const std::int64_t rows = logits.size(0);
  const TensorView maxima = maxima_->slice(0, 0, rows);
  row_max(maxima, logits, shard_, stream);
  tensor_.all_reduce_max(maxima, stream);
  min_p_thresholds(thresholds_->slice(0, 0, rows), maxima, temperature_->slice(0, 0, rows),
                   min_p_->slice(0, 0, rows), stream);
  if (rows_.any_top_k) search(ThresholdKind::count, top_k_->slice(0, 0, rows), logits, stream);
  if (rows_.any_top_p) search(ThresholdKind::mass, top_p_->slice(0, 0, rows), logits, stream);
}

void Sampler::search(ThresholdKind kind, const TensorView& limits, const TensorView& logits,
                     Stream stream) {
  const std::int64_t rows = logits.size(0);
  const ThresholdSearch search{.kind = kind,
                               .thresholds = thresholds_->slice(0, 0, rows),
                               .limits = limits,
                               .maxima = maxima_->slice(0, 0, rows),
                               .temperature = temperature_->slice(0, 0, rows),
                               .prefixes = prefixes_->slice(0, 0, rows),
                               .remaining = remaining_->slice(0, 0, rows)};
  const TensorView histogram =
      histogram_->slice(0, 0, rows * threshold_bins).reshape({rows, threshold_bins});
  for (int round = 0; round < threshold_rounds; ++round) {
    threshold_histogram(histogram, logits, shard_, search, round, stream);
    tensor_.all_reduce_sum(histogram, stream);
    threshold_narrow(search, histogram, round, stream);
  }
}

// The raw logit of the token drawn, and how many are at least as large.
void Sampler::chosen_logprobs(const TensorView& logits, Stream stream) {
  const std::int64_t rows = logits.size(0);
  const TensorView picked = picked_->slice(0, 0, rows);
  pick_logits(picked, logits, shard_, drawn_, stream);
  tensor_.all_reduce_max(picked, stream);
  const TensorView ranks = ranks_->slice(0, 0, rows);
  count_at_least(ranks, logits, shard_, picked, stream);
  tensor_.all_reduce_sum(ranks, stream);
}

void Sampler::collect(StepResult& result, Stream stream) {
  const std::vector<std::int32_t> tokens = download<std::int32_t>(drawn_, stream);
  synchronize(stream);
  if (rows_.logprobs >= 0) {
    result.logprobs.resize(result.tokens.size());  // rows before that asked for none
    append_logprobs(result, stream);
  }
  result.tokens.insert(result.tokens.end(), tokens.begin(), tokens.end());
  if (!result.logprobs.empty()) result.logprobs.resize(result.tokens.size());
}

void Sampler::append_logprobs(StepResult& result, Stream stream) {
  const auto rows = static_cast<std::int64_t>(sequences_.size());
  const auto k = static_cast<std::size_t>(rows_.logprobs);
  const auto tokens = download<std::int32_t>(drawn_, stream);
  const auto maxima = download<float>(raw_maxima_->slice(0, 0, rows), stream);
  const auto masses = download<std::int64_t>(raw_masses_->slice(0, 0, rows), stream);
  const auto picked = download<float>(picked_->slice(0, 0, rows), stream);
  const auto ranks = download<std::int64_t>(ranks_->slice(0, 0, rows), stream);
  const auto top =
      download<std::int64_t>(top_->slice(0, 0, rows * static_cast<std::int64_t>(k)), stream);
  synchronize(stream);
  for (std::size_t row = 0; row < sequences_.size(); ++row) {
    TokenLogprobs& logprobs = result.logprobs.emplace_back();
    const std::int32_t wanted = sequences_[row]->request->sampling.logprobs;
    if (wanted < 0 || tokens[row] < 0) continue;
    logprobs.token = tokens[row];
    logprobs.logprob = log_probability(picked[row], maxima[row], masses[row]);
    logprobs.rank = static_cast<std::int32_t>(ranks[row]);
    for (std::size_t i = 0; i < static_cast<std::size_t>(wanted); ++i) {
      const std::int64_t candidate = top[row * k + i];
      if (candidate == no_candidate) break;  // the vocabulary is smaller
      logprobs.top.emplace_back(
          candidate_token(candidate),
          log_probability(candidate_value(candidate), maxima[row], masses[row]));
    }
  }
}

}  // namespace millrace
