// Draws one token per row of logits that stay sharded by vocabulary (kernels/sampling.hpp has the
// ops). A draw depends on the row's logits, the request's settings, its key and the position: not
// on the grid, the batch or the order of requests.
//
// Order: penalties and bias, min_tokens mask, temperature, min-p, top-k, top-p. Logprobs are of the
// raw logits. Ties are cut together; of equal candidates the lowest token id wins.
//
// Three calls per batch of rows: prepare() on the host, draw() on the device, download() of what
// was drawn to a place that the host reads when the device is done. None of them waits for the
// device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/comm.hpp"
#include "core/batch/step.hpp"
#include "core/engine/sample_download.hpp"
#include "core/engine/sampling_rows.hpp"
#include "core/engine/staged_upload.hpp"
#include "kernels/sampling.hpp"

namespace millrace {

struct SamplerParameters {
  VocabShard shard;
  std::int64_t max_rows = 0;      // of one batch
  std::int64_t batches = 1;       // the most of one step
  std::int32_t max_num_seqs = 0;  // Sequence::slot is below
  std::uint64_t seed = 0;         // of the run
  std::vector<std::int32_t> eos_token_ids;
};

class Sampler {
 public:
  // `tensor` holds the ranks that share the vocabulary, and must outlive the sampler. Collective
  // calls on it are made by draw() alone.
  Sampler(const SamplerParameters& parameters, const Comm& tensor, Device device);

  // Reads the settings of the rows' sequences and copies them to the device.
  void prepare(std::span<const Sample> samples, Stream stream);

  // logits [rows, at least shard.size] f32 of the samples prepared; changed meanwhile, and put
  // back.
  void draw(const TensorView& logits, Stream stream);

  // The tokens drawn, on the device: [rows] i32, -1 where none could be.
  const TensorView& tokens() const { return drawn_; }

  // Enqueues the copy of the tokens, and of logprobs when a row asks for them.
  void download(SampleDownload& to, Stream stream) const;

 private:
  void raw_logprobs(const TensorView& logits, Stream stream);
  void chosen_logprobs(const TensorView& logits, Stream stream);
  void find_thresholds(const TensorView& logits, Stream stream);
  void search(ThresholdKind kind, const TensorView& limits, const TensorView& logits,
              Stream stream);

  VocabShard shard_;
  const Comm& tensor_;
  Device device_;
  std::int64_t max_rows_;
  std::int64_t batches_;
  SamplingRowsBuilder builder_;
  std::vector<const Sequence*> sequences_;  // of the rows prepared
  SamplingRows rows_;

  // On the device, of the rows prepared: settings, and edits of logits.
  StagedUpload staging_;
  TensorView temperature_, min_p_, top_p_, top_k_, positions_, noise_keys_;
  LogitEdits edits_;

  // On the device, [max_rows] unless noted.
  Tensor maxima_, thresholds_, prefixes_, remaining_;
  Tensor histogram_;  // [max_rows, 256]
  Tensor candidates_, tokens_;
  Tensor raw_maxima_, raw_masses_, picked_, ranks_;
  Tensor top_, gathered_top_;  // [max_rows, k], [ranks, max_rows, k]
  Tensor saved_;               // [edits]; grown in prepare()
  TensorView drawn_;
};

}  // namespace millrace
