#include "core/io/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace millrace {
namespace {

// One pair of lines. A request takes whole blocks, so its length is rounded up; the cache is a
// whole number of blocks by itself.
void add_lines(std::vector<std::string>& lines, std::string_view prefix, std::string_view device,
               std::int64_t blocks, std::int32_t block_size, double concurrency,
               std::int32_t max_model_len) {
  lines.push_back(fmt::format("{}{} KV cache size: {} tokens", prefix, device,
                              with_commas(blocks * block_size)));
  lines.push_back(fmt::format("{}Maximum concurrency for {} tokens per request: {:.2f}x", prefix,
                              with_commas(max_model_len), concurrency));
}

}  // namespace

std::vector<std::int64_t> replica_blocks(const KvCacheReport& kv_cache) {
  std::int32_t replicas = 0;
  for (const KvCacheRow& row : kv_cache.ranks) {
    replicas = std::max(replicas, row.replica + 1);
  }
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(replicas),
                                   std::numeric_limits<std::int64_t>::max());
  for (const KvCacheRow& row : kv_cache.ranks) {
    auto& least = blocks[static_cast<std::size_t>(row.replica)];
    least = std::min(least, row.blocks);
  }
  return blocks;
}

std::int32_t limiting_rank(const KvCacheReport& kv_cache) {
  const auto least = std::ranges::min_element(kv_cache.ranks, {}, &KvCacheRow::blocks);
  return least == kv_cache.ranks.end() ? -1 : least->rank;
}

double maximum_concurrency(std::int64_t blocks, std::int32_t block_size,
                           std::int32_t max_model_len) {
  if (block_size <= 0 || max_model_len <= 0) {
    return 0;
  }
  const std::int64_t per_request = (max_model_len + block_size - 1) / block_size;
  return static_cast<double>(blocks) / static_cast<double>(per_request);
}

std::vector<std::string> kv_cache_lines(std::string_view device,
                                        std::span<const std::int64_t> blocks_per_replica,
                                        std::int32_t block_size, std::int32_t max_model_len) {
  std::vector<std::string> lines;
  std::int64_t total_blocks = 0;
  double total_concurrency = 0;
  for (std::size_t first = 0; first < blocks_per_replica.size();) {
    const std::int64_t blocks = blocks_per_replica[first];
    std::size_t last = first;
    while (last + 1 < blocks_per_replica.size() && blocks_per_replica[last + 1] == blocks) {
      ++last;
    }
    const double concurrency = maximum_concurrency(blocks, block_size, max_model_len);
    if (blocks_per_replica.size() > 1) {
      const std::string prefix = first == last ? fmt::format("Replica {}: ", first)
                                               : fmt::format("Replicas {}-{}, each: ", first, last);
      add_lines(lines, prefix, device, blocks, block_size, concurrency, max_model_len);
    }
    const auto count = static_cast<std::int64_t>(last - first + 1);
    total_blocks += blocks * count;
    total_concurrency += concurrency * static_cast<double>(count);
    first = last + 1;
  }
  const std::string_view prefix = blocks_per_replica.size() > 1 ? "In total: " : "";
  add_lines(lines, prefix, device, total_blocks, block_size, total_concurrency, max_model_len);
  return lines;
}

std::vector<std::string> limit_lines(const KvCacheReport& kv_cache) {
  std::map<std::int32_t, std::pair<KvCacheRow, KvCacheRow>> extremes;  // least, most; by replica
  for (const KvCacheRow& row : kv_cache.ranks) {
    auto& [least, most] = extremes.try_emplace(row.replica, row, row).first->second;
    if (row.blocks < least.blocks) least = row;
    if (row.blocks > most.blocks) most = row;
  }
  std::vector<std::string> lines;
  for (const auto& [replica, rows] : extremes) {
    const auto& [least, most] = rows;
    if (most.blocks - least.blocks <= most.blocks / 100) continue;
    lines.push_back(
        fmt::format("KV cache limited by rank {} ({} tokens; other ranks of replica {} up to {})",
                    least.rank, with_commas(least.blocks * kv_cache.block_size), replica,
                    with_commas(most.blocks * kv_cache.block_size)));
  }
  return lines;
}

std::string rate_text(double per_second) {
  return per_second < 1000 ? fmt::format("{:.1f}", per_second)
                           : with_commas(static_cast<std::int64_t>(per_second));
}

std::string with_commas(std::int64_t value) {
  std::string text = fmt::format("{}", value);
  const std::size_t first_digit = value < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > first_digit + 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

}  // namespace millrace
