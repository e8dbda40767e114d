#include "core/engine/sampler.hpp"

#include <algorithm>

namespace millrace {

namespace {

// The best candidates kept per row: the most that a request can ask for.
constexpr std::int64_t top_width = max_logprobs;

// Bytes of a row's settings: four of f32 or i32 size and one i64, and their alignment.
std::size_t settings_bytes(std::int64_t rows) {
  return static_cast<std::size_t>(rows) * (5 * sizeof(float) + sizeof(std::int64_t)) + 6 * 16;
}

constexpr std::size_t edit_bytes = 2 * sizeof(std::int32_t) + 2 * sizeof(float);

}  // namespace

Sampler::Sampler(const SamplerParameters& parameters, const Comm& tensor, Device device)
    : shard_(parameters.shard),
      tensor_(tensor),
      device_(device),
      max_rows_(parameters.max_rows),
      batches_(parameters.batches),
      builder_(parameters.max_num_seqs, parameters.seed, parameters.eos_token_ids),
      staging_(settings_bytes(parameters.max_rows), device, parameters.batches) {
  const auto column = [&](DType dtype) { return Tensor(dtype, device, {parameters.max_rows}); };
  for (Tensor* t : {&maxima_, &raw_maxima_, &picked_}) *t = column(DType::f32);
  for (Tensor* t : {&thresholds_, &prefixes_, &tokens_}) *t = column(DType::i32);
  for (Tensor* t : {&remaining_, &candidates_, &raw_masses_, &ranks_}) {
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
  const auto edits = static_cast<std::int64_t>(rows_.edit_rows.size());
  if (edits > 0 && (saved_->empty() || saved_->numel() < edits)) {
    const std::int64_t capacity = std::max<std::int64_t>(2 * edits, 1024);
    synchronize(stream);  // the areas that are given back may still be read
    saved_ = Tensor(DType::f32, device_, {capacity});
    staging_ = StagedUpload(
        settings_bytes(max_rows_) + static_cast<std::size_t>(capacity) * edit_bytes + 4 * 16,
        device_, batches_);
  }
  staging_.begin();
  const auto place = [&](const auto& values, DType dtype) {
    return staging_.put(std::span(values), dtype);
  };
  temperature_ = place(rows_.temperature, DType::f32);
  min_p_ = place(rows_.min_p, DType::f32);
  top_p_ = place(rows_.top_p, DType::f32);
  top_k_ = place(rows_.top_k, DType::i32);
  positions_ = place(rows_.positions, DType::i32);
  noise_keys_ = place(rows_.noise_keys, DType::i64);
  if (edits > 0) {
    edits_ = {.rows = place(rows_.edit_rows, DType::i32),
              .tokens = place(rows_.edit_tokens, DType::i32),
              .divide = place(rows_.divide, DType::f32),
              .subtract = place(rows_.subtract, DType::f32),
              .saved = saved_->slice(0, 0, edits)};
  }
  staging_.finish(stream);
}

void Sampler::draw(const TensorView& logits, Stream stream) {
  const std::int64_t rows = logits.size(0);
  const bool edits = !rows_.edit_rows.empty();
  if (rows_.logprobs >= 0) raw_logprobs(logits, stream);
  if (edits) apply_edits(logits, shard_, edits_, stream);
  const bool cuts = rows_.any_min_p || rows_.any_top_k || rows_.any_top_p;
  if (cuts) find_thresholds(logits, stream);

  const TensorView candidates = candidates_->slice(0, 0, rows);
  const DrawRows draw_rows{.temperature = temperature_,
                           .noise_keys = noise_keys_,
                           .positions = positions_,
                           .thresholds = cuts ? thresholds_->slice(0, 0, rows) : TensorView()};
  draw_candidates(candidates, logits, shard_, draw_rows, stream);
  tensor_.all_reduce_max(candidates, stream);
  drawn_ = tokens_->slice(0, 0, rows);
  unpack_candidates(drawn_, candidates, stream);

  if (edits) undo_edits(logits, shard_, edits_, stream);
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
  min_p_thresholds(thresholds_->slice(0, 0, rows), maxima, temperature_, min_p_, stream);
  if (rows_.any_top_k) search(ThresholdKind::count, top_k_, logits, stream);
  if (rows_.any_top_p) search(ThresholdKind::mass, top_p_, logits, stream);
}

void Sampler::search(ThresholdKind kind, const TensorView& limits, const TensorView& logits,
                     Stream stream) {
  const std::int64_t rows = logits.size(0);
  const ThresholdSearch search{.kind = kind,
                               .thresholds = thresholds_->slice(0, 0, rows),
                               .limits = limits,
                               .maxima = maxima_->slice(0, 0, rows),
                               .temperature = temperature_,
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

void Sampler::download(SampleDownload& to, Stream stream) const {
  to.begin(rows_.logprobs, sequences_);
  to.fetch(SampleDownload::Part::tokens, drawn_, stream);
  if (rows_.logprobs < 0) return;
  const auto rows = static_cast<std::int64_t>(sequences_.size());
  to.fetch(SampleDownload::Part::maxima, raw_maxima_->slice(0, 0, rows), stream);
  to.fetch(SampleDownload::Part::masses, raw_masses_->slice(0, 0, rows), stream);
  to.fetch(SampleDownload::Part::picked, picked_->slice(0, 0, rows), stream);
  to.fetch(SampleDownload::Part::ranks, ranks_->slice(0, 0, rows), stream);
  to.fetch(SampleDownload::Part::top, top_->slice(0, 0, rows * rows_.logprobs), stream);
}

}  // namespace millrace
