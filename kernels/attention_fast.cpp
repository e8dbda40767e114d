// Attention as an online softmax over tiles of 64 keys (arXiv:2205.14135), decode and prefill
// alike.
//
// An item is one KV head and some queries of one sequence, with all query heads that share the KV
// head: up to about 96 rows. It walks over the key tiles that any of its rows sees; each tile is
// widened and, for keys, transposed once, then both products are register tiles of
// linear_tiles.hpp. The few rows of a decode step read the cache directly instead, in the same
// chains of sums. Tiles start at multiples of 64 positions, and a hidden key contributes an exact
// zero, so a row's bits depend neither on which rows share its item nor on how its prompt was cut.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/base/buffer.hpp"
#include "kernels/base/team.hpp"
#include "kernels/simd/attention_tiles.hpp"
#include "kernels/simd/isa.hpp"
#include "kernels/simd/linear_tiles.hpp"

namespace millrace::cpu {
namespace {

constexpr std::int64_t item_rows = 96;
constexpr std::int64_t panel = 32;

const AttentionTiles& active_tiles() {
#ifdef __x86_64__
  if (active_isa() == Isa::avx512) return avx512::attention_tiles;
  if (active_isa() == Isa::avx2) return avx2::attention_tiles;
#endif
  return portable::attention_tiles;
}

int load_index(DType dtype) {
  if (dtype == DType::f32) return 0;
  if (dtype == DType::bf16) return 1;
  return dtype == DType::f16 ? 2 : 3;
}

// Queries [first, last) of a sequence, counted from its first row in this batch.
struct Item {
  std::int64_t sequence;
  std::int64_t kv_head;
  std::int64_t first;
  std::int64_t last;
};

std::vector<Item> make_items(const AttentionBatch& batch, const AttentionParams& params) {
  std::vector<Item> items;
  const std::int32_t* starts = batch.query_starts.as<std::int32_t>();
  const std::int64_t step = std::max<std::int64_t>(item_rows / (params.heads / params.kv_heads), 1);
  for (std::int64_t s = 0; s < batch.kv_lengths.size(0); ++s) {
    const std::int64_t queries = starts[s + 1] - starts[s];
    for (std::int64_t first = 0; first < queries; first += step) {
      for (std::int64_t h = 0; h < params.kv_heads; ++h) {
        items.push_back({s, h, first, std::min(first + step, queries)});
      }
    }
  }
  return items;
}

// What the items take one thread, if all their keys are visible: a key is read in the time that
// eight rows take to meet it.
std::int64_t nanoseconds(const std::vector<Item>& items, const AttentionBatch& batch,
                         const AttentionParams& params) {
  std::int64_t total = 0;
  for (const Item& item : items) {
    const std::int64_t queries = item.last - item.first;
    std::int64_t keys = batch.kv_lengths.as<std::int32_t>()[item.sequence];
    if (params.window > 0) keys = std::min(keys, params.window + queries);
    total += keys * params.head_dim * (queries * params.heads / params.kv_heads + 8) / 32;
  }
  return total;
}

// A thread's working memory, reused from call to call.
struct Scratch {
  float* rows;     // [rows, head_dim], the queries in order
  float* queries;  // [row tiles][head_dim][tile rows], packed
  float* keys;     // [2, head_dim, 32]
  float* values;   // [head_dim panels, 64, 32]
  float* scores;   // [rows, 64]
  float* weights;  // one row tile's scores, [64][tile rows]
  float* sums;     // [head_dim panels, rows, 32]
  float* largest;  // [rows]
  float* totals;   // [rows]

  Scratch(std::int64_t row_count, std::int64_t head_dim) {
    const std::int64_t padded = (head_dim + panel - 1) / panel * panel;
    const std::int64_t sizes[] = {row_count * head_dim,
                                  row_count * head_dim,
                                  2 * head_dim * panel,
                                  padded * key_tile,
                                  row_count * key_tile,
                                  LinearTiles::limit * key_tile,
                                  padded * row_count,
                                  row_count,
                                  row_count};
    float** const parts[] = {&rows,    &queries, &keys,    &values, &scores,
                             &weights, &sums,    &largest, &totals};
    std::int64_t total = 0;
    for (const std::int64_t size : sizes) total += (size + 15) / 16 * 16;
    thread_local Buffer buffer;
    const std::size_t bytes = static_cast<std::size_t>(total) * sizeof(float);
    if (buffer.bytes() < bytes) buffer = Buffer(bytes, Device::cpu());
    auto* next = static_cast<float*>(buffer.data());
    for (std::size_t i = 0; i < std::size(sizes); ++i) {
      *parts[i] = next;
      next += (sizes[i] + 15) / 16 * 16;
    }
    std::fill_n(sums, padded * row_count, 0.0F);
    std::fill_n(largest, row_count, -std::numeric_limits<float>::infinity());
    std::fill_n(totals, row_count, 0.0F);
  }
};

class ItemRun {
 public:
  ItemRun(const TensorView& out, const TensorView& q, const TensorView& k_cache,
          const TensorView& v_cache, const AttentionBatch& batch, const AttentionParams& params,
          const Item& item)
      : out_(out),
        q_(q),
        k_cache_(k_cache),
        v_cache_(v_cache),
        params_(params),
        item_(item),
        group_(params.heads / params.kv_heads),
        tiling_((item.last - item.first) * group_, products_.max_rows),
        scratch_(tiling_.rows, params.head_dim) {
    const std::int32_t* starts = batch.query_starts.as<std::int32_t>();
    first_row_ = starts[item.sequence] + item.first;
    const std::int64_t kv_length = batch.kv_lengths.as<std::int32_t>()[item.sequence];
    const std::int64_t queries = starts[item.sequence + 1] - starts[item.sequence];
    first_end_ = kv_length - queries + item.first + 1;
    block_table_ =
        batch.block_tables.as<std::int32_t>() + item.sequence * batch.block_tables.stride(0);
  }

  void run() {
    pack_queries();
    const std::int64_t begin = visible_begin(0) / key_tile * key_tile;
    const std::int64_t end = visible_end(tiling_.rows - 1);
    KeyTile tiles[2];  // this one and the next
    if (begin < end) locate(tiles[0], begin, end);
    for (std::int64_t key = begin, turn = 0; key < end; key += key_tile, turn = 1 - turn) {
      const std::int64_t count = std::min(key_tile, end - key);
      const KeyTile* ahead = key + key_tile < end ? &tiles[1 - turn] : nullptr;
      if (ahead != nullptr) locate(tiles[1 - turn], key + key_tile, end);
      if (tiling_.rows <= AttentionTiles::direct_rows) {
        run_direct(tiles[turn], key, count, ahead);
        continue;
      }
      parts_.load_keys[dtype_](scratch_.keys, tiles[turn], count, params_.head_dim, ahead);
      parts_.load_values[dtype_](scratch_.values, tiles[turn], count, params_.head_dim, ahead);
      for (std::int64_t tile = 0; tile < tiling_.count; ++tile) run_rows(tile, key, count);
    }
    store_out();
  }

 private:
  // Row r is query r / group_ of the item, query head r % group_ of the KV head. Rows of a query,
  // and so the ends of what rows see, ascend.
  std::int64_t visible_end(std::int64_t row) const {
    return std::max<std::int64_t>(first_end_ + row / group_, 0);
  }
  std::int64_t visible_begin(std::int64_t row) const {
    return params_.window > 0 ? std::max<std::int64_t>(visible_end(row) - params_.window, 0) : 0;
  }
  float* row_of(const TensorView& tensor, std::int64_t row) const {
    return tensor.as<float>() + (first_row_ + row / group_) * tensor.stride(0) +
           (item_.kv_head * group_ + row % group_) * params_.head_dim;
  }

  void pack_queries() {
    for (std::int64_t r = 0; r < tiling_.rows; ++r) {
      std::copy_n(row_of(q_, r), params_.head_dim, scratch_.rows + r * params_.head_dim);
    }
    for (std::int64_t tile = 0; tile < tiling_.count; ++tile) {
      const std::int64_t offset = tiling_.begin(tile) * params_.head_dim;
      pack_rows(scratch_.queries + offset, scratch_.rows + offset, params_.head_dim,
                tiling_.height(tile), params_.head_dim);
    }
  }

  // Where keys [key, key + 64) lie, those at and beyond `end` replaced by the last.
  void locate(KeyTile& tile, std::int64_t key, std::int64_t end) const {
    const std::int64_t block_size = k_cache_.size(2);
    const auto row_bytes = params_.head_dim * static_cast<std::int64_t>(size_of(k_cache_.dtype()));
    const std::int64_t last = std::min(key_tile, end - key) - 1;
    for (std::int64_t j = 0; j <= last;) {
      const std::int64_t inside = (key + j) % block_size;
      const std::int64_t vector =
          (block_table_[(key + j) / block_size] * params_.kv_heads + item_.kv_head) * block_size +
          inside;
      const std::int64_t run = std::min(last + 1 - j, block_size - inside);
      const char* k = static_cast<const char*>(k_cache_.data()) + vector * row_bytes;
      const char* v = static_cast<const char*>(v_cache_.data()) + vector * row_bytes;
      for (std::int64_t i = 0; i < run; ++i, ++j) {
        tile.keys[j] = k + i * row_bytes;
        tile.values[j] = v + i * row_bytes;
      }
    }
    for (std::int64_t j = last + 1; j < key_tile; ++j) {
      tile.keys[j] = tile.keys[last];
      tile.values[j] = tile.values[last];
    }
  }

  // Rows [top, top + rows): scores become weights, and the sums so far shrink when a new largest
  // score appears.
  void soften(std::int64_t top, std::int64_t rows, std::int64_t key) {
    const ScoreParams score_params{params_.scale, params_.softcap};
    for (std::int64_t row = top; row < top + rows; ++row) {
      const float factor =
          parts_.softmax_row(scratch_.scores + row * key_tile,
                             std::clamp<std::int64_t>(visible_begin(row) - key, 0, key_tile),
                             std::clamp<std::int64_t>(visible_end(row) - key, 0, key_tile),
                             score_params, scratch_.largest + row, scratch_.totals + row);
      if (factor == 1.0F) continue;
      for (std::int64_t p = 0; p * panel < params_.head_dim; ++p) {
        parts_.scale_row(scratch_.sums + (p * tiling_.rows + row) * panel, factor, panel);
      }
    }
  }

  // All rows against a tile of keys, read from the cache.
  void run_direct(const KeyTile& tile, std::int64_t key, std::int64_t count, const KeyTile* ahead) {
    const std::int64_t rows = tiling_.rows;
    parts_.direct_scores[dtype_][rows - 1](scratch_.scores, scratch_.queries, tile, count,
                                           params_.head_dim, ahead);
    soften(0, rows, key);
    parts_.direct_sums[dtype_][rows - 1](scratch_.sums, rows * panel, scratch_.scores, tile, count,
                                         params_.head_dim, ahead);
  }

  // One tile of rows against the loaded tile of keys.
  void run_rows(std::int64_t tile, std::int64_t key, std::int64_t count) {
    const std::int64_t top = tiling_.begin(tile);
    const std::int64_t rows = tiling_.height(tile);
    if (visible_end(top + rows - 1) <= key || visible_begin(top) >= key + count) return;
    const LinearTile<float> product = products_.f32[rows - 1];
    const auto* hot = reinterpret_cast<const char*>(scratch_.keys);
    float* scores = scratch_.scores + top * key_tile;
    std::fill_n(scores, rows * key_tile, 0.0F);
    for (std::int64_t half = 0; half * panel < count; ++half) {
      product(scratch_.queries + top * params_.head_dim,
              scratch_.keys + half * params_.head_dim * panel, params_.head_dim,
              scores + half * panel, key_tile, hot, 0);
    }
    soften(top, rows, key);
    pack_rows(scratch_.weights, scores, key_tile, rows, count);
    for (std::int64_t p = 0; p * panel < params_.head_dim; ++p) {
      product(scratch_.weights, scratch_.values + p * key_tile * panel, count,
              scratch_.sums + (p * tiling_.rows + top) * panel, panel, hot, 0);
    }
  }

  void store_out() {
    for (std::int64_t r = 0; r < tiling_.rows; ++r) {
      const float total = scratch_.totals[r];
      float* to = row_of(out_, r);
      for (std::int64_t c = 0; c < params_.head_dim; ++c) {
        const float sum = scratch_.sums[(c / panel * tiling_.rows + r) * panel + c % panel];
        to[c] = visible_end(r) > 0 ? sum / total : 0.0F;
      }
    }
  }

  const TensorView& out_;
  const TensorView& q_;
  const TensorView& k_cache_;
  const TensorView& v_cache_;
  const AttentionParams& params_;
  const Item& item_;
  const LinearTiles& products_ = active_linear_tiles();
  const AttentionTiles& parts_ = active_tiles();
  const int dtype_ = load_index(k_cache_.dtype());
  std::int64_t group_;
  RowTiling tiling_;
  Scratch scratch_;
  std::int64_t first_row_ = 0;  // of q and out
  std::int64_t first_end_ = 0;  // what the item's first query sees ends here
  const std::int32_t* block_table_ = nullptr;
};

}  // namespace

void paged_attention(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                     const TensorView& v_cache, const AttentionBatch& batch,
                     const AttentionParams& params, Stream) {
  const std::vector<Item> items = make_items(batch, params);
  const auto count = static_cast<std::int64_t>(items.size());
  const bool shared = worth_a_team(count, nanoseconds(items, batch, params));
#pragma omp parallel for schedule(dynamic) if (shared)
  for (std::size_t i = 0; i < items.size(); ++i) {
    ItemRun(out, q, k_cache, v_cache, batch, params, items[i]).run();
  }
}

}  // namespace millrace::cpu
