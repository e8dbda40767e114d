#include "core/model/partition.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <random>

#include "kernels/base/error.hpp"
#include "specs.hpp"

namespace millrace {
namespace {

using test::make_spec;
using test::smollm2;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<RankSlices> tensor_ranks_of(const ModelSpec& spec, int tp) {
  std::vector<RankSlices> ranks;
  for (int rank = 0; rank < tp; ++rank) {
    ranks.push_back(partition(spec, {1, 1, tp}, {0, 0, rank}));
  }
  return ranks;
}

std::vector<std::int64_t> heads_of(const ModelSpec& spec, int tp) {
  std::vector<std::int64_t> heads;
  for (const RankSlices& rank : tensor_ranks_of(spec, tp)) {
    heads.push_back(rank.slices.front().heads.count);
  }
  return heads;
}

TEST(Partition, NineHeadsInThreeGroupsRunOnAnyNumberOfRanksUpToNine) {
  EXPECT_THAT(heads_of(smollm2(), 1), ElementsAre(9));
  EXPECT_THAT(heads_of(smollm2(), 2), ElementsAre(6, 3));
  EXPECT_THAT(heads_of(smollm2(), 3), ElementsAre(3, 3, 3));
  EXPECT_THAT(heads_of(smollm2(), 4), ElementsAre(3, 3, 2, 1));
  EXPECT_THAT(heads_of(smollm2(), 8), ElementsAre(2, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(heads_of(smollm2(), 9), ElementsAre(1, 1, 1, 1, 1, 1, 1, 1, 1));
}

TEST(Partition, RanksThatShareAGroupHoldItsKvHead) {
  const auto ranks = tensor_ranks_of(smollm2(), 4);
  EXPECT_EQ(ranks[0].slices[0].kv_heads, (Range{0, 1}));
  EXPECT_EQ(ranks[1].slices[0].kv_heads, (Range{1, 1}));
  EXPECT_EQ(ranks[2].slices[0].kv_heads, (Range{2, 1}));
  EXPECT_EQ(ranks[3].slices[0].kv_heads, (Range{2, 1}));
  EXPECT_EQ(ranks[2].slices[0].heads, (Range{6, 2}));
  EXPECT_EQ(ranks[3].slices[0].heads, (Range{8, 1}));
}

TEST(Partition, MultiHeadAttentionIsCutByHeads) {
  EXPECT_THAT(heads_of(make_spec(5, 5, 9, 45, 180, 387, 4), 4), ElementsAre(2, 1, 1, 1));
}

TEST(Partition, TheVocabularyIsPaddedToTheSameSizeOnEveryRank) {
  const auto ranks = tensor_ranks_of(make_spec(8, 8, 8, 64, 256, 50257, 2), 4);
  // 50257 rows are 786 units of 64: 197 + 197 + 196 + 196, the last with 17 rows.
  EXPECT_EQ(ranks[0].vocab, (Range{0, 197 * 64}));
  EXPECT_EQ(ranks[3].vocab, (Range{(197 + 197 + 196) * 64, 50257 - (197 + 197 + 196) * 64}));
  for (const RankSlices& rank : ranks) EXPECT_EQ(rank.vocab_padded, 197 * 64);
}

// Every index of [0, total) is in exactly one of the ranges, which come in order.
void expect_exact_cover(const std::vector<Range>& ranges, std::int64_t total) {
  std::int64_t next = 0;
  for (const Range& range : ranges) {
    EXPECT_EQ(range.begin, next);
    EXPECT_GE(range.count, 1);
    next = range.end();
  }
  EXPECT_EQ(next, total);
}

void expect_balanced(const std::vector<Range>& ranges, std::int64_t total, double slack) {
  const double mean = static_cast<double>(total) / static_cast<double>(ranges.size());
  for (const Range& range : ranges) EXPECT_LE(static_cast<double>(range.count), mean + slack);
}

template <typename Part>
std::vector<Range> collect(const std::vector<RankSlices>& ranks, Part part) {
  std::vector<Range> ranges;
  for (const RankSlices& rank : ranks) ranges.push_back(part(rank));
  return ranges;
}

TEST(Partition, TensorRanksOfRandomModelsHoldEverythingOnceAndEvenly) {
  std::mt19937 random(7);
  const auto draw = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  };
  for (int trial = 0; trial < 2000; ++trial) {
    const int kv_heads = draw(1, 12);
    const int group = draw(1, 9);
    const int heads = kv_heads * group;
    const int tp = draw(1, std::min(heads, 16));
    const ModelSpec spec =
        make_spec(heads, kv_heads, draw(1, 16) * 2, 64, draw(tp, 6000), draw(tp, 60000), 2);
    SCOPED_TRACE(fmt::format("{} heads in {} groups, inner {}, vocabulary {}, tp {}", heads,
                             kv_heads, spec.layers[0].mlp.intermediate_size, spec.vocab_size, tp));
    const auto ranks = tensor_ranks_of(spec, tp);

    const auto head_ranges = collect(ranks, [](auto& r) { return r.slices[1].heads; });
    expect_exact_cover(head_ranges, heads);
    expect_balanced(head_ranges, heads, tp <= kv_heads ? group : group - 1 + 1e-9);
    for (const RankSlices& rank : ranks) {
      const LayerSlice& slice = rank.slices[1];
      // Each KV head serves as many query heads as the next, and they are its own.
      EXPECT_EQ(slice.heads.count % slice.kv_heads.count, 0);
      EXPECT_EQ(slice.heads.begin / group, slice.kv_heads.begin);
      EXPECT_EQ((slice.heads.end() - 1) / group, slice.kv_heads.end() - 1);
      EXPECT_EQ(rank.vocab_padded % 64, 0);
      EXPECT_LE(rank.vocab.count, rank.vocab_padded);
      EXPECT_EQ(rank.vocab_padded, ranks.front().vocab_padded);
    }
    const std::int64_t inner = spec.layers[1].mlp.intermediate_size;
    const auto inner_ranges = collect(ranks, [](auto& r) { return r.slices[1].intermediate; });
    expect_exact_cover(inner_ranges, inner);
    expect_balanced(inner_ranges, inner, std::max(1.0, 0.125 * static_cast<double>(inner) / tp));
    const auto vocab_ranges = collect(ranks, [](auto& r) { return r.vocab; });
    expect_exact_cover(vocab_ranges, spec.vocab_size);
    expect_balanced(vocab_ranges, spec.vocab_size,
                    std::max(1.0, 0.125 * static_cast<double>(spec.vocab_size) / tp));
    if (HasFailure()) break;
  }
}

TEST(Partition, CutsRespectTheGranule) {
  ModelSpec spec = make_spec(8, 8, 16, 128, 1408, 1000, 1);
  spec.granule = 128;
  for (const RankSlices& rank : tensor_ranks_of(spec, 4)) {
    EXPECT_EQ(rank.slices[0].intermediate.begin % 128, 0);
    EXPECT_EQ(rank.slices[0].intermediate.count % 128, 0);
  }
}

TEST(Partition, StagesHoldAllLayersInOrderAndTheEndsOfTheModel) {
  for (const int pp : {1, 2, 3, 7, 30}) {
    std::vector<Range> layers;
    for (int stage = 0; stage < pp; ++stage) {
      const RankSlices rank = partition(smollm2(), {1, pp, 1}, {0, stage, 0});
      layers.push_back(rank.layers);
      EXPECT_EQ(rank.slices.size(), static_cast<std::size_t>(rank.layers.count));
      EXPECT_EQ(rank.has_embedding, stage == 0);
      EXPECT_EQ(rank.has_head, stage == pp - 1);
    }
    expect_exact_cover(layers, 30);
  }
}

TEST(Partition, TheHeadCountsAsLayersAndTheEmbeddingDoesNot) {
  // A SmolLM2 layer has 3.54 M parameters, its table 28.3 M: eight layers' worth, of which two
  // fifths count.
  EXPECT_THAT(split_layers(smollm2(), 2), ElementsAre(17, 13));
  const ModelSpec no_vocabulary = make_spec(8, 8, 8, 64, 256, 8, 10);
  EXPECT_THAT(split_layers(no_vocabulary, 2), ElementsAre(5, 5));
}

// The least possible cost of the costliest stage, by trying every split.
std::int64_t best_by_trying(const std::vector<std::int64_t>& layers, std::int64_t last, int stages,
                            std::size_t begin) {
  std::int64_t best = INT64_MAX;
  std::int64_t sum = 0;
  if (stages == 1) {
    for (std::size_t i = begin; i < layers.size(); ++i) sum += layers[i];
    return sum + last;
  }
  for (std::size_t end = begin + 1; end + static_cast<std::size_t>(stages) - 1 <= layers.size();
       ++end) {
    sum += layers[end - 1];
    best = std::min(best, std::max(sum, best_by_trying(layers, last, stages - 1, end)));
  }
  return best;
}

TEST(Partition, NoSplitHasACheaperCostliestStage) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    ModelSpec spec = make_spec(4, 4, 8, 32, 64, 1 + static_cast<int>(random() % 2000), 8);
    for (LayerSpec& layer : spec.layers) {
      layer.mlp.intermediate_size = 16 * (1 + static_cast<int>(random() % 30));
    }
    const int stages = 2 + static_cast<int>(random() % 4);
    std::vector<std::int64_t> costs;
    for (const LayerSpec& layer : spec.layers) {
      costs.push_back((2 * 8 * 8 + 3 * layer.mlp.intermediate_size) * 32);
    }
    const std::int64_t head = spec.vocab_size * 32 * 2 / 5;
    const std::vector<int> split = split_layers(spec, stages);
    std::int64_t costliest = 0;
    auto layer = costs.begin();
    for (int stage = 0; stage < stages; ++stage) {
      std::int64_t sum = stage == stages - 1 ? head : 0;
      for (int i = 0; i < split[static_cast<std::size_t>(stage)]; ++i) sum += *layer++;
      costliest = std::max(costliest, sum);
    }
    EXPECT_EQ(costliest, best_by_trying(costs, head, stages, 0));
  }
}

TEST(Partition, ThePipelinePartitionFlagOverridesTheCosts) {
  const std::vector<int> given{8, 8, 7, 7};
  EXPECT_EQ(partition(smollm2(), {1, 4, 1}, {0, 2, 0}, given).layers, (Range{16, 7}));
}

TEST(Partition, AGridThatTheModelCannotTakeIsTheUsersError) {
  const auto cut = [](GridShape grid, std::vector<int> stages = {}) {
    return [=] { check_partition(smollm2(), grid, stages); };
  };
  EXPECT_THAT(cut({1, 1, 10}), ThrowsMessage<UserError>(HasSubstr("size 10 is larger than the "
                                                                  "model's 9 query heads")));
  EXPECT_THAT(cut({1, 31, 1}), ThrowsMessage<UserError>(HasSubstr("size 31 is larger than the "
                                                                  "model's 30 layers")));
  EXPECT_THAT(cut({1, 2, 1}, {10, 10, 10}),
              ThrowsMessage<UserError>(HasSubstr("10,10,10 has 3 entries")));
  EXPECT_THAT(cut({1, 2, 1}, {10, 10}),
              ThrowsMessage<UserError>(HasSubstr("sums to 20, the model has 30")));
  EXPECT_THAT(cut({1, 2, 1}, {30, 0}), ThrowsMessage<UserError>(HasSubstr("needs a layer")));
  EXPECT_NO_THROW(cut({1, 2, 9}, {29, 1})());
  const ModelSpec narrow = make_spec(8, 8, 8, 64, 5, 100, 1);
  EXPECT_THAT(
      [&] {
        check_partition(narrow, {1, 1, 6});
      },
      ThrowsMessage<UserError>(HasSubstr("5 inner features")));
  const ModelSpec few_words = make_spec(8, 8, 8, 64, 64, 5, 1);
  EXPECT_THAT(
      [&] {
        check_partition(few_words, {1, 1, 6});
      },
      ThrowsMessage<UserError>(HasSubstr("vocabulary of 5")));
}

}  // namespace
}  // namespace millrace
