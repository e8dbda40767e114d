// Which part of a model a rank holds: a pure function of the model's spec, the grid and the rank's
// place in it. Every rank can compute every other rank's part.
//
//   attention   tp <= KV heads: whole KV groups (a KV head and its query heads), one more on the
//               first ranks where it does not divide; tp > KV heads: the ranks are dealt to the
//               groups and the ranks of one group split its query heads, each holding the group's
//               KV head
//   MLP         the inner dimension, in even units of up to 64 (the model's granule at least)
//   vocabulary  in even units of 64 rows (of 1 when there are fewer than 8 x 64 x tp); the table in
//               memory is padded with zero rows to a multiple of 64, equal on all tensor ranks
//   layers      contiguous per stage, minimising the costliest stage
#pragma once

#include <cstdint>
#include <vector>

#include "comm/grid.hpp"
#include "core/model/model_spec.hpp"

namespace millrace {

// [begin, begin + count)
struct Range {
  std::int64_t begin = 0;
  std::int64_t count = 0;

  std::int64_t end() const { return begin + count; }
  friend bool operator==(const Range&, const Range&) = default;
};

// The parts of one layer. On every rank each of its KV heads serves heads.count / kv_heads.count
// consecutive query heads.
struct LayerSlice {
  Range heads;     // query heads
  Range kv_heads;  // shared with the neighbour ranks when tp > KV heads
  Range intermediate;
};

struct RankSlices {
  int tensor_rank = 0;
  int tensor_size = 1;
  Range layers;                    // of the model, on this stage
  std::vector<LayerSlice> slices;  // one for each of them
  Range vocab;                     // rows of the vocabulary on this tensor rank
  std::int64_t vocab_padded = 0;  // rows of its table in memory, >= vocab.count, equal on all ranks
  bool has_embedding = false;     // first stage
  bool has_head = false;          // last stage

  bool is_first_tensor_rank() const { return tensor_rank == 0; }
};

// `pipeline_partition`: layers per stage, empty to split by cost. Throws UserError with the values
// when tp is larger than the query heads (or the inner dimension, or the vocabulary) allow, pp is
// larger than the number of layers, or the override does not have pp entries of at least 1 that sum
// to the layers.
RankSlices partition(const ModelSpec& spec, GridShape grid, GridCoordinates rank,
                     const std::vector<int>& pipeline_partition = {});

// Layers per stage by cost. The cost of a layer is its parameters; the last stage also pays two
// fifths of the head's (not every token has logits).
std::vector<int> split_layers(const ModelSpec& spec, int stages);

// Throws the UserErrors of partition() for a grid, without a rank.
void check_partition(const ModelSpec& spec, GridShape grid,
                     const std::vector<int>& pipeline_partition = {});

}  // namespace millrace
