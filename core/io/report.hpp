// What a job tells about itself, as plain data: filled by whoever knows, printed at the start (the
// KV lines), and written into the result file (README.md, "The result file").
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/io/fingerprint.hpp"
#include "core/io/timeline.hpp"

namespace millrace {

// One rank's place.
struct RankRow {
  std::int32_t rank = 0;
  std::string host;
  std::string device;  // "cpu", "cuda:0 NVIDIA H100 80GB HBM3 0000:19:00.0"
  std::int32_t data = 0;
  std::int32_t pipeline = 0;
  std::int32_t tensor = 0;
  std::int32_t layer_begin = 0;  // this rank's layers [layer_begin, layer_end)
  std::int32_t layer_end = 0;
  std::string gpu_links;  // to the host's other GPUs, in rank order: "NV18 NV18 SYS"; CPUs: empty
};

// The link between two ranks of a communicator.
struct LinkRow {
  std::string communicator;  // "tensor", "pipeline", ...
  std::int32_t from = 0;     // world ranks
  std::int32_t to = 0;
  std::string transport;  // "NVLink P2P/CUMEM", "NET/IB/0/GDRDMA", "shared memory", "MPI tcp", ...
  double latency_microseconds = 0;
  double gigabytes_per_second = 0;
};

// One rank's memory.
struct KvCacheRow {
  std::int32_t rank = 0;
  std::int32_t replica = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t activation_bytes = 0;
  std::int64_t cache_bytes = 0;  // what this rank has for the cache
  std::int64_t block_bytes = 0;  // of one block, over this rank's layers
  std::int64_t blocks = 0;       // cache_bytes / block_bytes
  std::int64_t other_bytes = 0;  // libraries, communicators, graphs; where they were measured
};

struct KvCacheReport {
  std::vector<KvCacheRow> ranks;
  std::int32_t block_size = 0;  // tokens
  std::int32_t max_model_len = 0;
  std::int64_t preemptions = 0;
  std::int64_t peak_running = 0;  // sequences at once, over all replicas
};

struct Summary {
  double load_seconds = 0;  // start to weights loaded
  double run_seconds = 0;   // first prompt read to last request finished
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t requests = 0;
  std::int64_t errors = 0;
};

// What one attempt of a job has in the result.
struct RunRow {
  std::int32_t shard = 0;  // of merged results: which of them, in the order of the prompt file
  std::int32_t run = 0;    // 0 for the first attempt, counted up by each --resume
  std::int64_t requests = 0;
  std::int64_t errors = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  // On the run's own clock: its first kept request came, its last one was finished.
  double started_seconds = 0;
  double finished_seconds = 0;
};

// Which prompts the result answers, and with what.
struct JobReport {
  Fingerprint fingerprint;  // empty: written by a version that kept none
  // The bytes of the prompt file whose lines were asked for, and how many there are in all.
  std::int64_t prompt_begin = 0;
  std::int64_t prompt_end = 0;
  std::int64_t prompt_file_bytes = 0;
  std::int64_t first_index = 0;  // lines before them
  std::int64_t unanswered = 0;   // lines; only in what --recover made
  std::vector<RunRow> runs = {};
};

struct Report {
  std::vector<std::pair<std::string, std::string>> config;  // flag, value; repeated flags repeat
  std::vector<RankRow> ranks;
  std::vector<LinkRow> links;
  std::string gpu_sums;  // which way tensor parallel sums take, by size; "" when there is one way
  KvCacheReport kv_cache;
  std::vector<TimelineRow> timeline;
  Summary summary;
  JobReport job;
};

// Blocks that each replica can use: the smallest of its ranks decides. Indexed by replica.
std::vector<std::int64_t> replica_blocks(const KvCacheReport& kv_cache);

// The rank with the fewest blocks (the lowest of equals); -1 when there are no ranks.
std::int32_t limiting_rank(const KvCacheReport& kv_cache);

// How many requests of `max_model_len` tokens fit into `blocks` blocks at once.
double maximum_concurrency(std::int64_t blocks, std::int32_t block_size,
                           std::int32_t max_model_len);

// The lines printed at the start, "GPU KV cache size: 643,232 tokens" and "Maximum concurrency for
// 40,960 tokens per request: 15.70x" (`device` is "GPU" or "CPU"). With several replicas, the two
// lines for each group of neighbouring equal replicas first ("Replicas 0-3: GPU KV cache size:
// ..."), then the total in the plain words.
std::vector<std::string> kv_cache_lines(std::string_view device,
                                        std::span<const std::int64_t> blocks_per_replica,
                                        std::int32_t block_size, std::int32_t max_model_len);

// Which rank decides the size when other ranks of its replica could hold more, by a hundredth or
// above: "KV cache limited by rank 3 (9,600 tokens; other ranks of replica 0 up to 12,800)", a line
// for each such replica.
std::vector<std::string> limit_lines(const KvCacheReport& kv_cache);

// 643232 -> "643,232".
std::string with_commas(std::int64_t value);
// "297.5", "13,839"
std::string rate_text(double per_second);

}  // namespace millrace
