// The parts of sampling, on logits that stay sharded by vocabulary: no row is ever gathered.
// Between two parts the caller all-reduces small integers or maxima over the tensor ranks; those
// reductions are exact in any order, so a draw depends on the logits and the request alone, never
// on the grid or the batch. Nothing returns to the host in between, so a step can be captured in a
// graph.
//
//     row_max                       all-reduce max f32 [rows]
//     row_mass                      all-reduce sum i64 [rows]             log-sum-exp, for logprobs
//     top_candidates                all-gather i64 [rows, k]  -> merge_candidates
//     apply_edits                   penalties, bias, masks
//     row_max                       all-reduce max f32 [rows]
//     min_p_thresholds
//     4 x { threshold_histogram     all-reduce sum i64 [rows, 256]  -> threshold_narrow }  counts
//     4 x { threshold_histogram     all-reduce sum i64 [rows, 256]  -> threshold_narrow }  masses
//     draw_candidates               all-reduce max i64 [rows]  -> unpack_candidates
//     undo_edits
//     pick_logits                   all-reduce max f32 [rows]             the raw logit drawn
//     count_at_least                all-reduce sum i64 [rows]             its rank
//
// What a batch does not ask for is left out. Everywhere: logits [rows, vocab_local] f32, rows may
// be strided; column j < shard.size is token shard.begin + j; columns at and beyond shard.size are
// padding and are never read. A NaN or -infinity is never chosen. Arithmetic: sampling_math.hpp.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

struct VocabShard {
  std::int64_t begin = 0;  // first token id
  std::int64_t size = 0;   // how many columns are real tokens; 0 is legal
};

// Sparse changes of logits, for any row in any order: l = (l > 0 ? l / divide : l * divide) -
// subtract.
//   repetition penalty p: divide = p; presence and frequency: subtract = presence + frequency *
//   count; bias b: subtract = -b; a masked token: subtract = +infinity.
// A pair (row, token) occurs at most once. Entries with row -1 (unused capacity) and tokens of
// other shards are skipped.
struct LogitEdits {
  TensorView rows;      // [edits] i32
  TensorView tokens;    // [edits] i32, ids of the whole vocabulary
  TensorView divide;    // [edits] f32
  TensorView subtract;  // [edits] f32
  TensorView saved;     // [edits] f32, written by apply_edits: the logits before, for undo_edits
};

void apply_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits,
                 Stream stream);

// Puts the saved logits back, bit for bit.
void undo_edits(const TensorView& logits, VocabShard shard, const LogitEdits& edits, Stream stream);

// maxima[r] = the largest logit of the row that is not NaN; -infinity when there is none. maxima
// [rows] f32.
void row_max(const TensorView& maxima, const TensorView& logits, VocabShard shard, Stream stream);

// masses[r] = sum over tokens of exp(logit - maxima[r]) in units of 2^-40, each term rounded down.
// masses [rows] i64; maxima [rows] f32, over the whole vocabulary. See log_probability.
void row_mass(const TensorView& masses, const TensorView& logits, VocabShard shard,
              const TensorView& maxima, Stream stream);

// log of the softmax of a logit, from its row's maximum and mass over the whole vocabulary; the
// error is below 1e-6. On the host.
float log_probability(float logit, float maximum, std::int64_t mass);

// Each row's k largest logits as candidates (pack_candidate), best first; of equal logits the lower
// token id first; no_candidate where the shard has fewer. candidates [rows, k] i64, k <= 32.
void top_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                    Stream stream);

// The k best of every rank's k: candidates [rows, k] i64 from gathered [ranks, rows, k] i64, k
// <= 32.
void merge_candidates(const TensorView& candidates, const TensorView& gathered, Stream stream);

// A row's threshold is a monotone_key: a token can be drawn when key(logit) >= threshold.
// thresholds[r] = key of maxima[r] + temperature[r] * log(min_p[r]): a token stays when its
// probability is at least min_p times the most likely one's. min_p 0 or temperature 0: the lowest
// key, nothing goes.
//   thresholds [rows] i32; maxima, temperature, min_p [rows] f32
void min_p_thresholds(const TensorView& thresholds, const TensorView& maxima,
                      const TensorView& temperature, const TensorView& min_p, Stream stream);

// A search for the exact key at which a row's tokens, best first, reach a wanted weight: by count
// (top-k) or by probability mass (top-p). Four rounds each fix 8 more bits of the key from a
// histogram of the tokens that match the bits so far. Only tokens at or above the row's threshold
// take part, so top-p works on what min-p and top-k left, renormalised. Ties with the last token
// stay. After round 3 the row's threshold is raised to the key found. A limit of top_k <= 0 or
// top_p >= 1 changes nothing.
constexpr int threshold_rounds = 4;
constexpr int threshold_bins = 256;

enum class ThresholdKind : std::uint8_t { count, mass };

struct ThresholdSearch {
  ThresholdKind kind = ThresholdKind::count;
  TensorView thresholds;   // [rows] i32, in-out
  TensorView limits;       // [rows] count: top_k i32; mass: top_p f32
  TensorView maxima;       // [rows] f32 over the whole vocabulary; mass only
  TensorView temperature;  // [rows] f32; mass only. 0: the row is greedy and keeps its threshold
  TensorView prefixes;     // [rows] i32, scratch: the key's bits fixed so far
  TensorView remaining;    // [rows] i64, scratch: weight still wanted
};

// histogram[r, b] = weight (count, or mass of (logit - max) / temperature) of the shard's tokens
// whose key matches the prefix and has b as its next 8 bits. histogram [rows, 256] i64; round 0..3.
void threshold_histogram(const TensorView& histogram, const TensorView& logits, VocabShard shard,
                         const ThresholdSearch& search, int round, Stream stream);

// Takes the histogram summed over all shards and fixes the next 8 bits.
void threshold_narrow(const ThresholdSearch& search, const TensorView& histogram, int round,
                      Stream stream);

// What a draw needs of each row.
struct DrawRows {
  TensorView temperature;  // [rows] f32; 0: greedy, no noise. Else at least 1e-5
  TensorView noise_keys;   // [rows] i64: noise_key(seed, request key, completion number)
  TensorView positions;    // [rows] i32: position of the token that is drawn
  TensorView thresholds;   // [rows] i32; empty: every token can be drawn
};

// candidates[r] = the largest (logit / temperature + Gumbel noise, token) of the row's tokens at or
// above its threshold, as a candidate; greedy rows: (logit, token). The largest of all shards is a
// draw from the softmax (Gumbel-max). The noise is a function of (noise key, position, token id)
// alone. no_candidate when nothing can be chosen. candidates [rows] i64.
void draw_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                     const DrawRows& rows, Stream stream);

// tokens[r] = the token of candidates[r], -1 for no_candidate. tokens [rows] i32.
void unpack_candidates(const TensorView& tokens, const TensorView& candidates, Stream stream);

// values[r] = the logit of tokens[r], -infinity when another shard has it. values [rows] f32,
// tokens i32.
void pick_logits(const TensorView& values, const TensorView& logits, VocabShard shard,
                 const TensorView& tokens, Stream stream);

// counts[r] = how many of the shard's logits are at least values[r] (a token's rank, ties counted
// against it). counts [rows] i64, values [rows] f32.
void count_at_least(const TensorView& counts, const TensorView& logits, VocabShard shard,
                    const TensorView& values, Stream stream);

namespace cpu {
decltype(millrace::apply_edits) apply_edits;
decltype(millrace::undo_edits) undo_edits;
decltype(millrace::row_max) row_max;
decltype(millrace::row_mass) row_mass;
decltype(millrace::top_candidates) top_candidates;
decltype(millrace::merge_candidates) merge_candidates;
decltype(millrace::min_p_thresholds) min_p_thresholds;
decltype(millrace::threshold_histogram) threshold_histogram;
decltype(millrace::threshold_narrow) threshold_narrow;
decltype(millrace::draw_candidates) draw_candidates;
decltype(millrace::unpack_candidates) unpack_candidates;
decltype(millrace::pick_logits) pick_logits;
decltype(millrace::count_at_least) count_at_least;
}  // namespace cpu
namespace cuda {
decltype(millrace::apply_edits) apply_edits;
decltype(millrace::undo_edits) undo_edits;
decltype(millrace::row_max) row_max;
decltype(millrace::row_mass) row_mass;
decltype(millrace::top_candidates) top_candidates;
decltype(millrace::merge_candidates) merge_candidates;
decltype(millrace::min_p_thresholds) min_p_thresholds;
decltype(millrace::threshold_histogram) threshold_histogram;
decltype(millrace::threshold_narrow) threshold_narrow;
decltype(millrace::draw_candidates) draw_candidates;
decltype(millrace::unpack_candidates) unpack_candidates;
decltype(millrace::pick_logits) pick_logits;
decltype(millrace::count_at_least) count_at_least;
}  // namespace cuda

}  // namespace millrace
