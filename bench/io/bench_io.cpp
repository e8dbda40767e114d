// The host's share of a job outside the model: how many prompts and results per second can be
// parsed, journalled, merged and written on one core. A replica that answers fewer is never kept
// waiting. Results have 128 tokens and about 500 characters of English; bytes/s are of texts and
// token ids.
#include <benchmark/benchmark.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "core/batch/request.hpp"
#include "core/io/crc32c.hpp"
#include "core/io/json_lines.hpp"
#include "core/io/merge.hpp"
#include "core/io/prompt_line.hpp"
#include "core/io/report.hpp"
#include "core/io/results.hpp"
#include "core/io/spool.hpp"
#include "core/text/tokenizer.hpp"

namespace millrace {
namespace {

constexpr std::int64_t results_each = 20'000;
constexpr int tokens_each = 128;

std::filesystem::path folder() {
  static const auto path = [] {
    const auto made = std::filesystem::temp_directory_path() / "millrace-bench-io";
    std::filesystem::create_directories(made);
    return made;
  }();
  return path;
}

// Words by Zipf's law, so that texts and token ids compress about as real ones do.
FinishedRequest answer(std::int64_t line) {
  static constexpr std::string_view syllables[] = {"th", "e",  "an", "in", "er", "on", "re", "st",
                                                   "or", "al", "ti", "ng", "it", "me", "co", "de"};
  std::mt19937_64 random(static_cast<std::uint64_t>(line));
  FinishedRequest result;
  result.key.offset = line * 100;
  result.line_bytes = 100;
  result.id = "request-" + std::to_string(line);
  for (int i = 0; i < 64; ++i) {
    result.prompt_token_ids.push_back(static_cast<std::int32_t>(random() % 49152));
  }
  Completion completion;
  for (int i = 0; i < tokens_each; ++i) {
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    const auto word = static_cast<std::int32_t>(std::exp(uniform * std::log(49152.0)));
    completion.token_ids.push_back(word);
    for (std::int32_t rest = word; rest > 0; rest /= 16) {
      completion.text += syllables[rest % 16];
    }
    completion.text += ' ';
  }
  result.completions.push_back(std::move(completion));
  return result;
}

const std::vector<FinishedRequest>& answers() {
  static const auto all = [] {
    std::vector<FinishedRequest> made;
    for (std::int64_t line = 0; line < results_each; ++line) {
      made.push_back(answer(line));
    }
    return made;
  }();
  return all;
}

void count(benchmark::State& state, std::int64_t items) {
  std::int64_t bytes = 0;
  for (const FinishedRequest& result : answers()) {
    bytes += static_cast<std::int64_t>(result.completions[0].text.size() + 4 * tokens_each);
  }
  state.SetItemsProcessed(state.iterations() * items);
  state.SetBytesProcessed(state.iterations() * bytes * items / results_each);
}

void crc(benchmark::State& state) {
  const std::vector<std::byte> data(1 << 20, std::byte{7});
  for (auto _ : state) {
    benchmark::DoNotOptimize(state.range(0) != 0 ? crc32c(data) : crc32c_plain(data));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(data.size()));
}
BENCHMARK(crc)->Arg(0)->Arg(1)->ArgName("hardware");

// JSON to a Request, with and without a text to tokenize.
void parse_line(benchmark::State& state) {
  const Tokenizer tokenizer = load_tokenizer(MILLRACE_TEST_DATA "/models/gpt2");
  PromptLineParser parser({PromptFormat::json_lines, 1 << 20, 1 << 20}, {}, tokenizer, {});
  std::string line = R"({"id": "request-17", "temperature": 0.7, "max_tokens": 128, "prompt": )";
  if (state.range(0) != 0) {
    append_json_string(line, answer(1).completions[0].text);
  } else {
    line += "[1, 2, 3, 4, 5, 6, 7, 8]";
  }
  line += "}";
  for (auto _ : state) {
    benchmark::DoNotOptimize(parser.parse(0, line));
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(line.size()));
}
BENCHMARK(parse_line)->Arg(0)->Arg(1)->ArgName("text");

void write_spool() {
  SpoolWriterOptions options;
  options.folder = folder() / "spool";
  options.header.prompt_end = results_each * 100;
  SpoolWriter spool(options);
  for (const FinishedRequest& result : answers()) {
    spool.put(FinishedRequest(result));
  }
  spool.close();
}

void journal(benchmark::State& state) {
  answers();
  for (auto _ : state) {
    state.PauseTiming();
    std::filesystem::remove_all(folder() / "spool");
    state.ResumeTiming();
    write_spool();
  }
  count(state, results_each);
}
BENCHMARK(journal)->Unit(benchmark::kMillisecond)->UseRealTime();

void merge(benchmark::State& state) {
  std::filesystem::remove_all(folder() / "spool");
  write_spool();
  for (auto _ : state) {
    merge_spool({folder() / "spool"}, [](std::int64_t, std::int32_t, FinishedRequest&& request) {
      benchmark::DoNotOptimize(request);
    });
  }
  count(state, results_each);
}
BENCHMARK(merge)->Unit(benchmark::kMillisecond)->UseRealTime();

void write_results(benchmark::State& state, const char* name) {
  answers();
  for (auto _ : state) {
    auto results = open_results({folder() / name, true, false});
    std::int64_t index = 0;
    for (const FinishedRequest& result : answers()) {
      results->add(index++, 0, result);
    }
    results->finish({});
  }
  count(state, results_each);
  state.counters["file_bytes_per_result"] =
      static_cast<double>(std::filesystem::file_size(folder() / name)) /
      static_cast<double>(results_each);
}
BENCHMARK_CAPTURE(write_results, hdf5, "a.h5")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(write_results, json_lines, "a.jsonl")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace millrace
