// The sampler on as many ranks as CMake names, each with a part of the vocabulary, against brute
// force on whole rows.
#include "core/engine/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <set>

#include "comm/environment.hpp"
#include "test/core/engine/make_sequence.hpp"

namespace millrace {
namespace {

using test::make_sequence;

const Comm& world() {
  static const Environment environment;
  return environment.world();
}

constexpr std::int64_t max_rows = 512;
constexpr std::int32_t eos = 3;

// An uneven cut, the last rank's shard the smallest, with columns of padding behind each.
struct Cut {
  VocabShard shard;
  std::int64_t padded = 0;
};

Cut cut(std::int64_t vocab, const Comm& comm) {
  const std::int64_t share = (vocab + comm.size() - 1) / comm.size() + (comm.size() > 1 ? 1 : 0);
  const std::int64_t begin = std::min(share * comm.rank(), vocab);
  return {{begin, std::min(share, vocab - begin)}, share + 3};
}

using Rows = std::vector<std::vector<float>>;

// The whole path for one batch: what each rank's sampler says of its part of the rows.
StepResult sample(const Comm& comm, const Rows& logits, const std::vector<Sample>& samples,
                  std::uint64_t seed = 7) {
  const auto vocab = static_cast<std::int64_t>(logits.front().size());
  const Cut part = cut(vocab, comm);
  Sampler sampler({.shard = part.shard,
                   .max_rows = max_rows,
                   .max_num_seqs = 1024,
                   .seed = seed,
                   .eos_token_ids = {eos}},
                  comm, Device::cpu());
  SampleDownload download(max_rows, Device::cpu());
  StepResult result;
  for (std::size_t first = 0; first < samples.size(); first += max_rows) {
    const std::size_t rows = std::min(samples.size() - first, static_cast<std::size_t>(max_rows));
    std::vector<float> local(rows * static_cast<std::size_t>(part.padded), 1e30F);
    for (std::size_t row = 0; row < rows; ++row) {
      const auto& whole = logits[(first + row) % logits.size()];
      std::copy_n(whole.begin() + part.shard.begin, part.shard.size,
                  local.begin() + static_cast<std::ptrdiff_t>(row) * part.padded);
    }
    const std::vector<float> before = local;
    const TensorView view(local.data(), DType::f32, Device::cpu(),
                          {static_cast<std::int64_t>(rows), part.padded});
    sampler.prepare(std::span(samples).subspan(first, rows), {});
    sampler.draw(view, {});
    sampler.download(download, {});
    download.append_to(result);
    EXPECT_EQ(0, std::memcmp(local.data(), before.data(), local.size() * sizeof(float)))
        << "the logits must be put back";
  }
  return result;
}

// One sample per position 0, 1, ... of one sequence.
std::vector<Sample> positions(const Sequence& sequence, std::size_t count) {
  std::vector<Sample> samples;
  for (std::size_t i = 0; i < count; ++i) {
    samples.push_back({&sequence, static_cast<std::int32_t>(i)});
  }
  return samples;
}

std::vector<float> random_row(std::size_t vocab, std::uint64_t seed, float spread,
                              bool with_ties = false) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(vocab);
  for (float& logit : row) logit = with_ties ? std::round(2 * normal(random)) / 2 : normal(random);
  return row;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  const double top = *std::ranges::max_element(logits);
  std::vector<double> p;
  for (const float logit : logits) p.push_back(std::exp((logit - top) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

// The tokens left by min-p, then top-k, then top-p of what is left; ties stay together.
std::set<std::int32_t> allowed(const std::vector<float>& logits, const SamplingParams& p) {
  std::vector<double> probability = softmax(logits, p.temperature);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](auto a, auto b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  const auto logit = [&](std::size_t i) { return logits[static_cast<std::size_t>(order[i])]; };
  const auto prob = [&](std::size_t i) { return probability[static_cast<std::size_t>(order[i])]; };
  std::size_t keep = order.size();
  const auto with_ties = [&](std::size_t count) {
    while (count < keep && logit(count) == logit(count - 1)) ++count;
    return count;
  };
  if (p.min_p > 0) {
    std::size_t count = 1;
    while (count < keep && prob(count) >= p.min_p * prob(0)) ++count;
    keep = count;
  }
  if (p.top_k > 0 && static_cast<std::size_t>(p.top_k) < keep) {
    keep = with_ties(static_cast<std::size_t>(p.top_k));
  }
  if (p.top_p < 1) {
    double total = 0;
    for (std::size_t i = 0; i < keep; ++i) total += prob(i);
    double sum = prob(0);
    std::size_t count = 1;
    while (count < keep && sum < p.top_p * total) sum += prob(count++);
    keep = with_ties(count);
  }
  return {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep)};
}

TEST(Sampler, GreedyTakesTheLargestLogitAndTheLowestIdOfEquals) {
  const auto sequence = make_sequence({.temperature = 0}, {1});
  const Rows rows = {{0, 5, 1, 5, 2}, {9, 1, 2, 3, 4}, {-3, -2, -1, -2, -1}};
  const StepResult result = sample(world(), rows, positions(*sequence, 3));
  EXPECT_EQ(result.tokens, (std::vector<std::int32_t>{1, 0, 2}));
  EXPECT_TRUE(result.logprobs.empty());
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::size_t draws = 200'000;
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    const Rows rows = {random_row(23, 11, 1.5F)};
    const auto sequence = make_sequence({.temperature = temperature}, {1, 2, 3});
    const StepResult result = sample(world(), rows, positions(*sequence, draws));
    std::vector<double> seen(23);
    for (const std::int32_t token : result.tokens) ++seen[static_cast<std::size_t>(token)];
    const std::vector<double> expected = softmax(rows[0], temperature);
    double chi_square = 0;
    double degrees = -1;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const double mean = expected[i] * static_cast<double>(draws);
      if (mean < 5) continue;  // too rare for the test's approximation
      chi_square += (seen[i] - mean) * (seen[i] - mean) / mean;
      ++degrees;
    }
    // Mean d, standard deviation sqrt(2 d): four of them is a chance of about 1 in 5,000.
    EXPECT_GE(degrees, 15);
    EXPECT_LT(chi_square, degrees + 4 * std::sqrt(2 * degrees)) << "temperature " << temperature;
  }
}

TEST(Sampler, NeighbouringPositionsAreIndependent) {
  const std::size_t draws = 100'000;
  const Rows rows = {{0, 0, 0, 0}};
  const auto sequence = make_sequence({}, {1});
  const StepResult result = sample(world(), rows, positions(*sequence, draws));
  std::vector<double> pairs(16);
  for (std::size_t i = 0; i + 1 < draws; i += 2) {
    ++pairs[static_cast<std::size_t>(4 * result.tokens[i] + result.tokens[i + 1])];
  }
  const double mean = static_cast<double>(draws) / 2 / 16;
  double chi_square = 0;
  for (const double count : pairs) chi_square += (count - mean) * (count - mean) / mean;
  EXPECT_LT(chi_square, 15 + 4 * std::sqrt(30.0));
}

struct Filter {
  float min_p;
  std::int32_t top_k;
  float top_p;
};

TEST(Sampler, FiltersKeepExactlyWhatASortKeeps) {
  const std::vector<Filter> filters = {
      {0, 1, 1},    {0, 5, 1},       {0, 0, 0.5F},     {0, 0, 0.9F}, {0.2F, 0, 1},  {0, 7, 0.8F},
      {0.1F, 9, 1}, {0.3F, 0, 0.7F}, {0.05F, 8, 0.9F}, {0, 100, 1},  {0, 3, 0.01F}, {0, -1, 0.99F}};
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const bool with_ties = seed % 2 == 0;
    const Rows rows = {random_row(29, seed, 1.0F, with_ties)};
    const Filter& filter = filters[seed];
    const auto sequence = make_sequence(
        {.temperature = 1.7F, .top_p = filter.top_p, .min_p = filter.min_p, .top_k = filter.top_k},
        {1});
    const StepResult result = sample(world(), rows, positions(*sequence, 6000));
    const std::set<std::int32_t> drawn(result.tokens.begin(), result.tokens.end());
    EXPECT_EQ(drawn, allowed(rows[0], sequence->request->sampling)) << "case " << seed;
  }
}

TEST(Sampler, FilteredDrawsFollowTheRenormalisedSoftmax) {
  const std::size_t draws = 100'000;
  const Rows rows = {random_row(40, 5, 1.0F)};
  const auto sequence = make_sequence({.temperature = 0.8F, .top_p = 0.85F, .top_k = 12}, {1});
  const StepResult result = sample(world(), rows, positions(*sequence, draws));
  const auto kept = allowed(rows[0], sequence->request->sampling);
  std::vector<double> p = softmax(rows[0], 0.8);
  double total = 0;
  for (const std::int32_t token : kept) total += p[static_cast<std::size_t>(token)];
  double chi_square = 0;
  for (const std::int32_t token : kept) {
    const double mean = p[static_cast<std::size_t>(token)] / total * static_cast<double>(draws);
    const auto seen = static_cast<double>(std::ranges::count(result.tokens, token));
    chi_square += (seen - mean) * (seen - mean) / mean;
  }
  const double degrees = static_cast<double>(kept.size()) - 1;
  EXPECT_GE(degrees, 4);
  EXPECT_LT(chi_square, degrees + 4 * std::sqrt(2 * degrees));
}

// Rows of every kind mixed, as a batch has them.
struct Mixed {
  Rows logits;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Sample> samples;
};

Mixed mixed_batch() {
  Mixed mixed;
  std::mt19937_64 random(3);
  for (std::int32_t i = 0; i < 60; ++i) {
    SamplingParams p;
    p.temperature = i % 5 == 0 ? 0.0F : 0.3F + 0.1F * static_cast<float>(i % 13);
    if (i % 3 == 0) p.top_k = 1 + i % 7;
    if (i % 4 == 1) p.top_p = 0.7F;
    if (i % 6 == 2) p.min_p = 0.1F;
    if (i % 7 == 3) p.repetition_penalty = 1.3F;
    if (i % 8 == 4) p.presence_penalty = 0.6F;
    if (i % 9 == 5) p.logit_bias = {{i % 50, 2.0F}};
    if (i % 11 == 6) p.min_tokens = 9;
    if (i % 10 == 7) p.seed = 99;
    p.logprobs = i % 2 == 0 ? i % 6 : -1;
    auto sequence = make_sequence(p, {i % 50, 2, 3}, {i % 17, 4}, 1000 + 37 * i);
    sequence->slot = i;
    mixed.sequences.push_back(std::move(sequence));
    mixed.logits.push_back(random_row(50, random(), 2.0F, i % 2 == 0));
    mixed.samples.push_back({mixed.sequences.back().get(), 2});
  }
  return mixed;
}

void expect_equal(const TokenLogprobs& a, const TokenLogprobs& b) {
  EXPECT_EQ(a.token, b.token);
  EXPECT_EQ(a.logprob, b.logprob);
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.top, b.top);
}

TEST(Sampler, TheGridDoesNotChangeADraw) {
  const Mixed mixed = mixed_batch();
  const StepResult sharded = sample(world(), mixed.logits, mixed.samples);
  const StepResult whole = sample(Comm(), mixed.logits, mixed.samples);
  EXPECT_EQ(sharded.tokens, whole.tokens);
  ASSERT_EQ(sharded.logprobs.size(), whole.logprobs.size());
  for (std::size_t i = 0; i < whole.logprobs.size(); ++i) {
    expect_equal(sharded.logprobs[i], whole.logprobs[i]);
  }
}

TEST(Sampler, TheBatchDoesNotChangeADraw) {
  const Mixed mixed = mixed_batch();
  const StepResult together = sample(world(), mixed.logits, mixed.samples);
  for (std::size_t i = 0; i < mixed.samples.size(); ++i) {
    const StepResult alone = sample(world(), {mixed.logits[i]}, {mixed.samples[i]});
    EXPECT_EQ(alone.tokens[0], together.tokens[i]);
    if (!alone.logprobs.empty()) expect_equal(alone.logprobs[0], together.logprobs[i]);
  }
}

TEST(Sampler, ASeedOfItsOwnMakesARequestIndependentOfItsPlace) {
  const Rows rows = {random_row(40, 1, 0.5F)};
  const SamplingParams own{.seed = 5};
  const auto here = make_sequence(own, {1}, {}, 100);
  const auto there = make_sequence(own, {1}, {}, 70'000);
  const auto other_seed = make_sequence({.seed = 6}, {1}, {}, 100);
  const auto unseeded = make_sequence({}, {1}, {}, 100);
  const auto unseeded_there = make_sequence({}, {1}, {}, 70'000);
  const auto draw = [&](const Sequence& s, std::uint64_t run_seed) {
    return sample(world(), rows, positions(s, 64), run_seed).tokens;
  };
  EXPECT_EQ(draw(*here, 1), draw(*there, 2));
  EXPECT_NE(draw(*here, 1), draw(*other_seed, 1));
  EXPECT_EQ(draw(*unseeded, 1), draw(*unseeded, 1));
  EXPECT_NE(draw(*unseeded, 1), draw(*unseeded, 2));
  EXPECT_NE(draw(*unseeded, 1), draw(*unseeded_there, 1));
}

TEST(Sampler, CompletionsOfOneRequestDiffer) {
  const Rows rows = {random_row(40, 1, 0.5F)};
  const auto first = make_sequence({.n = 2}, {1});
  const auto second = make_sequence({.n = 2}, {1});
  second->completion = 1;
  EXPECT_NE(sample(world(), rows, positions(*first, 32)).tokens,
            sample(world(), rows, positions(*second, 32)).tokens);
}

TEST(Sampler, PenaltiesAndBiasChangeTheChoice) {
  // Token 4 was in the prompt, 5 was drawn twice, 6 once.
  const auto greedy = [&](SamplingParams p, std::vector<float> row) {
    p.temperature = 0;
    const auto sequence = make_sequence(p, {4}, {5, 6, 5});
    return sample(world(), {std::move(row)}, {{sequence.get(), 3}}).tokens[0];
  };
  const std::vector<float> row = {0, 0, 1.9F, 0, 3, 2, 1, 0};
  EXPECT_EQ(greedy({}, row), 4);
  EXPECT_EQ(greedy({.presence_penalty = 2}, row), 4) << "the prompt is not output";
  EXPECT_EQ(greedy({.repetition_penalty = 1.6F}, row), 2) << "the prompt counts: 3 / 1.6 < 1.9";
  EXPECT_EQ(greedy({.repetition_penalty = 1.5F}, row), 4) << "3 / 1.5 > 1.9";
  EXPECT_EQ(greedy({.frequency_penalty = 0.4F}, {0, 0, 1.2F, 0, 0, 2, 1, 0}), 2)
      << "2 - 2 * 0.4 = 1.2 ties, and the lower id wins";
  EXPECT_EQ(greedy({.frequency_penalty = 0.39F}, {0, 0, 1.2F, 0, 0, 2, 1, 0}), 5);
  EXPECT_EQ(greedy({.presence_penalty = 0.9F}, {0, 0, 1.2F, 0, 0, 2, 1, 0}), 2);
  EXPECT_EQ(greedy({.logit_bias = {{7, 3.5F}}}, row), 7);
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {-3, -3, -3, -3, -2, -1.4F, -3, -3}), 5)
      << "-2 * 2 < -3, -1.4 * 2 > -3";
}

TEST(Sampler, EosAndStopTokensAreMaskedUntilMinTokens) {
  const SamplingParams p{
      .temperature = 0, .max_tokens = 20, .min_tokens = 5, .stop_token_ids = {6}};
  const auto sequence = make_sequence(p, {1});
  const Rows rows = {{0, 1, 2, 9, 3, 2, 8, 1}};
  const StepResult result = sample(world(), rows, positions(*sequence, 7));
  EXPECT_EQ(result.tokens, (std::vector<std::int32_t>{4, 4, 4, 4, 4, eos, eos}));

  SamplingParams ignoring = p;
  ignoring.ignore_eos = true;
  const auto other = make_sequence(ignoring, {1});
  EXPECT_EQ(sample(world(), rows, positions(*other, 1)).tokens[0], eos);
}

TEST(Sampler, LogprobsAreThoseOfTheRawLogits) {
  const std::vector<float> row = random_row(60, 8, 3.0F);
  const SamplingParams p{
      .temperature = 1.5F, .top_k = 20, .repetition_penalty = 1.8F, .logprobs = 5};
  const auto sequence = make_sequence(p, {7, 8, 9}, {10, 11});
  const StepResult result = sample(world(), {row}, positions(*sequence, 50));
  const std::vector<double> expected = softmax(row, 1.0);
  std::vector<float> sorted = row;
  std::ranges::sort(sorted, std::greater());
  ASSERT_EQ(result.logprobs.size(), 50U);
  for (std::size_t i = 0; i < 50; ++i) {
    const TokenLogprobs& logprobs = result.logprobs[i];
    const auto token = static_cast<std::size_t>(logprobs.token);
    EXPECT_EQ(logprobs.token, result.tokens[i]);
    EXPECT_NEAR(logprobs.logprob, std::log(expected[token]), 1e-5);
    EXPECT_EQ(sorted[static_cast<std::size_t>(logprobs.rank) - 1], row[token]);
    ASSERT_EQ(logprobs.top.size(), 5U);
    for (std::size_t k = 0; k < 5; ++k) {
      const auto [top_token, logprob] = logprobs.top[k];
      EXPECT_EQ(row[static_cast<std::size_t>(top_token)], sorted[k]);
      EXPECT_NEAR(logprob, std::log(expected[static_cast<std::size_t>(top_token)]), 1e-5);
    }
  }
}

TEST(Sampler, SaysWhenNothingCanBeDrawn) {
  const auto sequence = make_sequence({.temperature = 0, .logprobs = 2}, {1});
  const float nan = std::nanf("");
  const StepResult result =
      sample(world(), {{nan, nan, nan, nan}, {nan, 1, nan, 2}}, positions(*sequence, 2));
  EXPECT_EQ(result.tokens, (std::vector<std::int32_t>{-1, 3}));
}

}  // namespace
}  // namespace millrace
