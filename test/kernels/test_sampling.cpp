// Each part of sampling against a sort in double precision, over one shard and over several: the
// caller's all-reduces are played by sums and maxima over shards in one process.
#include "kernels/sampling.hpp"

#include <omp.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "kernels/sampling_math.hpp"
#include "kernels/simd/isa.hpp"
#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();

template <typename T>
Tensor rows_of(DType dtype, const std::vector<T>& values) {
  return tensor_of(dtype, {static_cast<std::int64_t>(values.size())}, values);
}

// Logits [rows, vocab] cut into shards; every shard is a matrix of its own with 3 columns of
// poison.
class Shards {
 public:
  Shards(const TensorView& logits, int count) {
    const std::int64_t vocab = logits.size(1);
    for (int s = 0; s < count; ++s) {
      const std::int64_t begin = vocab * s / count;
      const std::int64_t size = vocab * (s + 1) / count - begin;
      Tensor part(DType::f32, Device::cpu(), {logits.size(0), size + 3});
      std::fill_n(part->as<float>(), part->numel(), s % 2 == 0 ? inf : nan);
      for (std::int64_t r = 0; r < logits.size(0); ++r) {
        std::copy_n(logits.as<float>() + r * vocab + begin, size,
                    part->as<float>() + r * (size + 3));
      }
      shards_.push_back({begin, size});
      parts_.push_back(std::move(part));
    }
  }

  // Runs `part(result, logits, shard)` on each shard and combines the results element by element.
  template <typename T>
  Tensor reduce(
      DType dtype, std::initializer_list<std::int64_t> shape, const std::function<T(T, T)>& combine,
      const std::function<void(const TensorView&, const TensorView&, VocabShard)>& part) const {
    Tensor total = poisoned(dtype, shape);
    for (std::size_t s = 0; s < parts_.size(); ++s) {
      const Tensor one = poisoned(dtype, shape);
      part(one, parts_[s], shards_[s]);
      for (std::int64_t i = 0; i < one->numel(); ++i) {
        T& sum = total->as<T>()[i];
        sum = s == 0 ? one->as<T>()[i] : combine(sum, one->as<T>()[i]);
      }
    }
    return total;
  }

  Tensor maxima() const {
    return reduce<float>(
        DType::f32, {rows()}, [](float a, float b) { return std::max(a, b); },
        [](const auto& to, const auto& logits, VocabShard shard) {
          row_max(to, logits, shard, cpu_stream);
        });
  }

  void search(ThresholdKind kind, const TensorView& thresholds, const TensorView& limits,
              const TensorView& temperature) const {
    const Tensor largest = maxima();
    const Tensor prefixes = poisoned(DType::i32, {rows()});
    const Tensor remaining = poisoned(DType::i64, {rows()});
    const ThresholdSearch search{kind,        thresholds, limits,   largest,
                                 temperature, prefixes,   remaining};
    for (int round = 0; round < threshold_rounds; ++round) {
      const Tensor histogram =
          reduce<std::int64_t>(DType::i64, {rows(), threshold_bins}, std::plus<>(),
                               [&](const auto& to, const auto& logits, VocabShard shard) {
                                 threshold_histogram(to, logits, shard, search, round, cpu_stream);
                               });
      threshold_narrow(search, histogram, round, cpu_stream);
    }
  }

  std::vector<std::int32_t> draw(const DrawRows& draw_rows) const {
    const Tensor best = reduce<std::int64_t>(
        DType::i64, {rows()}, [](std::int64_t a, std::int64_t b) { return std::max(a, b); },
        [&](const auto& to, const auto& logits, VocabShard shard) {
          draw_candidates(to, logits, shard, draw_rows, cpu_stream);
        });
    const Tensor tokens = poisoned(DType::i32, {rows()});
    unpack_candidates(tokens, best, cpu_stream);
    return {tokens->as<std::int32_t>(), tokens->as<std::int32_t>() + rows()};
  }

  std::int64_t rows() const { return parts_[0]->size(0); }
  const TensorView& part(std::size_t s) const { return parts_[s]; }
  VocabShard shard(std::size_t s) const { return shards_[s]; }
  std::size_t count() const { return parts_.size(); }

 private:
  std::vector<VocabShard> shards_;
  std::vector<Tensor> parts_;
};

TEST(LogitEdits, ByHandAndUndoneBitForBit) {
  const Tensor logits = floats({2, 4}, {2, -2, 0.1F, 5, 1, 1, 1, 1});
  const Tensor rows = ints({0, 0, 0, 0, 1, -1});
  const Tensor tokens = ints({10, 11, 13, 99, 12, 10});
  const Tensor divide = rows_of<float>(DType::f32, {4, 4, 1, 1, 1, 1});
  const Tensor subtract = rows_of<float>(DType::f32, {0.25F, 0.25F, inf, 7, -3, 7});
  const Tensor saved = poisoned(DType::f32, {6});
  const LogitEdits edits{rows, tokens, divide, subtract, saved};
  const std::vector<float> before = to_vector(logits);
  apply_edits(logits, {10, 4}, edits, cpu_stream);
  EXPECT_EQ(to_vector(logits), (std::vector<float>{0.25F, -8.25F, 0.1F, -inf, 1, 1, 4, 1}));
  undo_edits(logits, {10, 4}, edits, cpu_stream);
  EXPECT_EQ(to_vector(logits), before);
}

TEST(RowStatistics, LogProbabilitiesAgreeWithDoublePrecision) {
  constexpr std::int64_t vocab = 5003;
  const Tensor logits = random_tensor(DType::f32, {3, vocab}, 21, 4);
  logits->as<float>()[5] = -inf;
  for (const int count : {1, 4}) {
    const Shards shards(logits, count);
    const Tensor maxima = shards.maxima();
    const Tensor masses = shards.reduce<std::int64_t>(
        DType::i64, {3}, std::plus<>(), [&](const auto& to, const auto& part, VocabShard shard) {
          row_mass(to, part, shard, maxima, cpu_stream);
        });
    for (std::int64_t r = 0; r < 3; ++r) {
      const float* x = logits->as<float>() + r * vocab;
      double sum = 0;
      for (std::int64_t j = 0; j < vocab; ++j) sum += std::exp(static_cast<double>(x[j]));
      const float value =
          log_probability(x[7], maxima->as<float>()[r], masses->as<std::int64_t>()[r]);
      EXPECT_NEAR(value, x[7] - std::log(sum), 1e-6);
    }
  }
}

TEST(TopCandidates, MergedShardsAreTheSortedRowWithTiesByLowerToken) {
  constexpr std::int64_t vocab = 501;
  const Tensor logits = random_tensor(DType::f32, {2, vocab}, 22);
  for (std::int64_t i = 0; i < 2 * vocab; ++i) {
    logits->as<float>()[i] = std::round(logits->as<float>()[i] * 4);  // many ties
  }
  logits->as<float>()[3] = nan;
  for (const std::int64_t k : {1, 20}) {
    const Shards shards(logits, 3);
    const Tensor gathered = poisoned(DType::i64, {3, 2, k});
    for (std::size_t s = 0; s < 3; ++s) {
      top_candidates(gathered->slice(0, static_cast<std::int64_t>(s), 1).reshape({2, k}),
                     shards.part(s), shards.shard(s), cpu_stream);
    }
    const Tensor merged = poisoned(DType::i64, {2, k});
    merge_candidates(merged, gathered, cpu_stream);
    for (std::int64_t r = 0; r < 2; ++r) {
      const float* x = logits->as<float>() + r * vocab;
      std::vector<std::int32_t> order(vocab);
      std::iota(order.begin(), order.end(), 0);
      const auto value = [&](std::int32_t token) { return std::isnan(x[token]) ? -inf : x[token]; };
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int32_t a, std::int32_t b) { return value(a) > value(b); });
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int64_t candidate = merged->as<std::int64_t>()[r * k + i];
        EXPECT_EQ(candidate_token(candidate), order[static_cast<std::size_t>(i)]);
        EXPECT_EQ(candidate_value(candidate), x[order[static_cast<std::size_t>(i)]]);
      }
    }
  }
}

TEST(TopCandidates, AShardWithFewerTokensSaysSo) {
  const Tensor logits = floats({1, 4}, {1, -inf, 3, 7});
  const Tensor best = poisoned(DType::i64, {1, 3});
  top_candidates(best, logits, {100, 3}, cpu_stream);
  EXPECT_EQ(candidate_token(best->as<std::int64_t>()[0]), 102);
  EXPECT_EQ(candidate_token(best->as<std::int64_t>()[1]), 100);
  EXPECT_EQ(best->as<std::int64_t>()[2], no_candidate);
}

// Which tokens of a row are at or above its threshold.
std::vector<std::int32_t> kept(const float* x, std::int64_t vocab, std::int32_t threshold) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t j = 0; j < vocab; ++j) {
    if (monotone_key(x[j]) >= threshold) tokens.push_back(static_cast<std::int32_t>(j));
  }
  return tokens;
}

// The reference: filters one after the other on a sorted row in double precision, ties kept.
std::vector<std::int32_t> kept_by_sorting(const float* x, std::int64_t vocab, double temperature,
                                          double min_p, std::int64_t top_k, double top_p) {
  const double largest = *std::max_element(x, x + vocab);
  const auto probability = [&](float l) { return std::exp((l - largest) / temperature); };
  std::vector<float> left;
  for (std::int64_t j = 0; j < vocab; ++j) {
    if (probability(x[j]) >= min_p) left.push_back(x[j]);
  }
  std::sort(left.begin(), left.end(), std::greater<>());
  float cut = left.back();
  if (top_k > 0 && top_k < static_cast<std::int64_t>(left.size())) {
    cut = left[static_cast<std::size_t>(top_k - 1)];
  }
  left.erase(std::find_if(left.begin(), left.end(), [&](float l) { return l < cut; }), left.end());
  double total = 0;
  for (const float l : left) total += probability(l);
  double sum = 0;
  for (const float l : left) {
    sum += probability(l);
    cut = l;
    if (sum >= top_p * total) break;
  }
  std::vector<std::int32_t> tokens;
  for (std::int64_t j = 0; j < vocab; ++j) {
    if (x[j] >= cut) tokens.push_back(static_cast<std::int32_t>(j));
  }
  return tokens;
}

TEST(Thresholds, KeepWhatSortingKeepsOnAnyNumberOfShards) {
  constexpr std::int64_t vocab = 997;
  struct Case {
    float temperature, min_p;
    std::int32_t top_k;
    float top_p;
  };
  const std::vector<Case> cases{
      {1, 0, 0, 1},          {1, 0, 1, 1},         {0.7F, 0, 50, 1},
      {1, 0, 5000, 1},       {1, 0, 0, 0.9F},      {1.5F, 0, 0, 0.31F},
      {1, 0, 0, 1e-6F},      {1, 0.02F, 0, 1},     {0.8F, 0.05F, 40, 0.95F},
      {2, 0.5F, 1000, 0.5F}, {0.1F, 0, 3, 0.999F}, {1, 1, 0, 1}};
  const auto rows = static_cast<std::int64_t>(cases.size());
  const Tensor logits = random_tensor(DType::f32, {rows, vocab}, 23, 2);
  for (std::int64_t i = 0; i < rows * vocab / 2;
       ++i) {  // ties in half of the rows, zeros of both signs
    logits->as<float>()[i] = std::round(logits->as<float>()[i] * 2) / 2;
  }
  std::vector<float> temperature, min_p, top_p;
  std::vector<std::int32_t> top_k;
  for (const Case& c : cases) {
    temperature.push_back(c.temperature);
    min_p.push_back(c.min_p);
    top_k.push_back(c.top_k);
    top_p.push_back(c.top_p);
  }
  const Tensor t = rows_of(DType::f32, temperature);
  for (const int count : {1, 2, 5}) {
    const Shards shards(logits, count);
    const Tensor thresholds = poisoned(DType::i32, {rows});
    min_p_thresholds(thresholds, shards.maxima(), t, rows_of(DType::f32, min_p), cpu_stream);
    shards.search(ThresholdKind::count, thresholds, ints(top_k), t);
    shards.search(ThresholdKind::mass, thresholds, rows_of(DType::f32, top_p), t);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* x = logits->as<float>() + r * vocab;
      const Case& c = cases[static_cast<std::size_t>(r)];
      EXPECT_EQ(kept(x, vocab, thresholds->as<std::int32_t>()[r]),
                kept_by_sorting(x, vocab, c.temperature, c.min_p, c.top_k, c.top_p))
          << "row " << r << " on " << count << " shards";
    }
  }
}

TEST(Thresholds, AGreedyRowKeepsEverything) {
  const Tensor logits = random_tensor(DType::f32, {1, 50}, 24);
  const Shards shards(logits, 1);
  const Tensor zero = rows_of<float>(DType::f32, {0});
  const Tensor thresholds = poisoned(DType::i32, {1});
  min_p_thresholds(thresholds, shards.maxima(), zero, rows_of<float>(DType::f32, {0.5F}),
                   cpu_stream);
  shards.search(ThresholdKind::mass, thresholds, rows_of<float>(DType::f32, {0.5F}), zero);
  EXPECT_EQ(thresholds->as<std::int32_t>()[0], lowest_key);
}

// `count` rows with the same logits, drawn at positions 0, 1, 2, ...
struct ManyDraws {
  Tensor logits;
  Tensor temperature;
  Tensor keys;
  Tensor positions;

  ManyDraws(const std::vector<float>& row, std::int64_t count, float t)
      : logits(DType::f32, Device::cpu(), {count, static_cast<std::int64_t>(row.size())}),
        temperature(DType::f32, Device::cpu(), {count}),
        keys(DType::i64, Device::cpu(), {count}),
        positions(DType::i32, Device::cpu(), {count}) {
    for (std::int64_t r = 0; r < count; ++r) {
      std::copy(row.begin(), row.end(), logits->as<float>() + r * logits->size(1));
      temperature->as<float>()[r] = t;
      keys->as<std::int64_t>()[r] = noise_key(42, 1234, 0);
      positions->as<std::int32_t>()[r] = static_cast<std::int32_t>(r);
    }
  }
  DrawRows rows() const { return {temperature, keys, positions, TensorView()}; }
};

TEST(Draw, FrequenciesAreThoseOfTheSoftmax) {
  const std::vector<float> row{1, 0, -1, 2.5F, -3, 0.5F, 1};
  constexpr std::int64_t draws = 60000;
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    const ManyDraws many(row, draws, temperature);
    std::vector<double> seen(row.size());
    for (const std::int32_t token : Shards(many.logits, 1).draw(many.rows()))
      ++seen[static_cast<std::size_t>(token)];
    double total = 0;
    for (const float l : row) total += std::exp(l / temperature);
    double chi_square = 0;
    for (std::size_t j = 0; j < row.size(); ++j) {
      const double expected = draws * std::exp(row[j] / temperature) / total;
      chi_square += (seen[j] - expected) * (seen[j] - expected) / expected;
    }
    EXPECT_LE(chi_square, 22.5) << "temperature "
                                << temperature;  // 6 degrees of freedom: p = 0.001
  }
}

TEST(Draw, TheShardsDoNotMatter) {
  const Tensor row = random_tensor(DType::f32, {1, 1001}, 25);
  const ManyDraws many(to_vector(row), 200, 1);
  const auto one = Shards(many.logits, 1).draw(many.rows());
  for (const int count : {2, 3, 8}) EXPECT_EQ(Shards(many.logits, count).draw(many.rows()), one);
  EXPECT_GT(std::set<std::int32_t>(one.begin(), one.end()).size(), 50U);
}

TEST(Draw, ARowsDrawDoesNotDependOnItsBatch) {
  const ManyDraws many(to_vector(random_tensor(DType::f32, {1, 300}, 26)), 50, 1);
  const auto together = Shards(many.logits, 1).draw(many.rows());
  for (std::int64_t r = 0; r < 50; ++r) {
    const DrawRows alone{many.temperature->slice(0, r, 1), many.keys->slice(0, r, 1),
                         many.positions->slice(0, r, 1), TensorView()};
    EXPECT_EQ(Shards(many.logits->slice(0, r, 1), 1).draw(alone)[0],
              together[static_cast<std::size_t>(r)]);
  }
}

// A draw is the formula of sampling.hpp, token by token, whatever computes it and however long the
// row.
TEST(Draw, EveryInstructionSetAndThreadCountDrawsWhatTheFormulaSays) {
  constexpr std::int64_t vocab = 40007;
  constexpr std::int32_t first = 1001;
  const ManyDraws many(to_vector(random_tensor(DType::f32, {1, vocab}, 27)), 3, 1.5F);
  std::vector<std::int64_t> expected(3, no_candidate);
  std::vector<std::int64_t> masses(3, 0);
  const float* x = many.logits->as<float>();
  const float inverse = 1.0F / 1.5F;
  for (std::int32_t j = 0; j < vocab; ++j) {
    const std::int32_t token = first + j;
    for (std::size_t r = 0; r < 3; ++r) {
      const Philox words =
          noise_words(noise_key(42, 1234, 0), static_cast<std::int32_t>(r), token / 4);
      const float value = add_rn(mul_rn(x[j], inverse), gumbel(words.word[token % 4]));
      expected[r] = std::max(expected[r], pack_candidate(value, token));
      masses[r] += mass(add_rn(x[j], -5.0F));
    }
  }
  const Tensor five = rows_of<float>(DType::f32, {5, 5, 5});
  for (const cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (isa > cpu::best_isa()) continue;
    cpu::use_isa(isa);
    for (const int threads : {1, 4}) {
      omp_set_num_threads(threads);
      const Tensor best = poisoned(DType::i64, {3});
      draw_candidates(best, many.logits, {first, vocab}, many.rows(), cpu_stream);
      EXPECT_EQ((std::vector<std::int64_t>(best->as<std::int64_t>(), best->as<std::int64_t>() + 3)),
                expected)
          << name(isa);
      row_mass(best, many.logits, {first, vocab}, five, cpu_stream);
      EXPECT_EQ((std::vector<std::int64_t>(best->as<std::int64_t>(), best->as<std::int64_t>() + 3)),
                masses)
          << name(isa);
    }
  }
  cpu::use_isa(cpu::best_isa());
  omp_set_num_threads(1);
}

TEST(Draw, AShardWithoutTokensHasNoCandidate) {
  const ManyDraws many({1, 2, 3}, 2, 1);
  const Tensor best = poisoned(DType::i64, {2});
  draw_candidates(best, many.logits, {9, 0}, many.rows(), cpu_stream);
  EXPECT_EQ(best->as<std::int64_t>()[0], no_candidate);
  EXPECT_EQ(best->as<std::int64_t>()[1], no_candidate);
  const Tensor largest = poisoned(DType::f32, {2});
  row_max(largest, many.logits, {9, 0}, cpu_stream);
  EXPECT_EQ(largest->as<float>()[0], -inf);
}

TEST(Draw, GreedyTakesTheLargestAndOfEqualsTheLowestToken) {
  const ManyDraws many({-1, 7, nan, 7, 3, 7}, 1, 0);
  for (const int count : {1, 2, 6}) EXPECT_EQ(Shards(many.logits, count).draw(many.rows())[0], 1);
}

TEST(Draw, NothingBelowTheThresholdIsEverDrawn) {
  const ManyDraws many({0, 0.25F, 0.5F, 0.75F, 1, -inf, nan}, 500, 10);
  DrawRows rows = many.rows();
  const Tensor thresholds(DType::i32, Device::cpu(), {500});
  std::fill_n(thresholds->as<std::int32_t>(), 500, monotone_key(0.5F));
  rows.thresholds = thresholds;
  const auto tokens = Shards(many.logits, 2).draw(rows);
  EXPECT_EQ((std::set<std::int32_t>(tokens.begin(), tokens.end())),
            (std::set<std::int32_t>{2, 3, 4}));
}

TEST(Draw, ARowWithNothingToChooseGivesMinusOne) {
  const ManyDraws many({-inf, nan, -inf}, 1, 1);
  EXPECT_EQ(Shards(many.logits, 2).draw(many.rows())[0], -1);
}

TEST(Rank, CountsTheLogitsThatAreAtLeastTheChosen) {
  const Tensor logits = floats({2, 6}, {5, 1, 3, 3, 9, nan, 0, 0, 0, 0, 0, 0});
  const Tensor tokens = ints({2, 5});
  for (const int count : {1, 3}) {
    const Shards shards(logits, count);
    const Tensor values = shards.reduce<float>(
        DType::f32, {2}, [](float a, float b) { return std::max(a, b); },
        [&](const auto& to, const auto& part, VocabShard shard) {
          pick_logits(to, part, shard, tokens, cpu_stream);
        });
    EXPECT_EQ(to_vector(values), (std::vector<float>{3, 0}));
    const Tensor counts = shards.reduce<std::int64_t>(
        DType::i64, {2}, std::plus<>(), [&](const auto& to, const auto& part, VocabShard shard) {
          count_at_least(to, part, shard, values, cpu_stream);
        });
    EXPECT_EQ(counts->as<std::int64_t>()[0], 4);
    EXPECT_EQ(counts->as<std::int64_t>()[1], 6);
  }
}

TEST(Sampling, AShapeErrorNamesTheTensor) {
  const Tensor logits(DType::f32, Device::cpu(), {2, 8});
  const Tensor three(DType::f32, Device::cpu(), {3});
  EXPECT_EQ(shape_error([&] {
              row_max(three, logits, {0, 8}, cpu_stream);
            }),
            "row_max: maxima is float32 [3] on cpu, expected float32 [2]");
  EXPECT_EQ(shape_error([&] {
              row_max(three->slice(0, 0, 2), logits, {0, 9}, cpu_stream);
            }),
            "row_max: a shard of 9 tokens from 0 in logits float32 [2, 8] on cpu");
  const Tensor wide(DType::i64, Device::cpu(), {2, 33});
  EXPECT_EQ(shape_error([&] {
              top_candidates(wide, logits, {0, 8}, cpu_stream);
            }),
            "top_candidates: candidates is int64 [2, 33] on cpu, at most 32 wide");
}

}  // namespace
}  // namespace millrace
