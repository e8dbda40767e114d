// A job of a million prompts takes no more memory than one of a thousand: reader, spool, merge and
// result writers are bounded. (That the whole program is: bench/throughput/memory.py.)
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "core/io/merge.hpp"
#include "core/io/prompt_reader.hpp"
#include "core/io/report.hpp"
#include "core/io/result_reader.hpp"
#include "core/io/results.hpp"
#include "core/io/statistics.hpp"
#include "core/text/tokenizer.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

#if defined(__SANITIZE_ADDRESS__)
// The sanitizer keeps what was freed: only that the code runs is of interest.
constexpr std::int64_t many_lines = 20'000;
constexpr std::int64_t most_growth_mib = 1 << 20;
#else
constexpr std::int64_t many_lines = 1'000'000;
constexpr std::int64_t most_growth_mib = 48;
#endif

// The most memory that was resident since reset_peak(), in MiB.
std::int64_t peak_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      return std::stoll(line.substr(6)) / 1024;
    }
  }
  return 0;
}

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

void write_prompts(const std::filesystem::path& path, std::int64_t lines) {
  std::ofstream out(path, std::ios::binary);
  for (std::int64_t i = 0; i < lines; ++i) {
    out << R"({"id": ")" << i << R"(", "prompt": "Tell me about number )" << i << ".\"}\n";
  }
}

// A whole job but for the model: each prompt's answer is its own tokens.
void run_job(const TemporaryFolder& folder, const Tokenizer& tokenizer, std::int64_t lines,
             const std::string& output) {
  const auto prompts = folder / "prompts.jsonl";
  write_prompts(prompts, lines);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(prompts));
  SpoolWriterOptions spool_options;
  spool_options.folder = folder / ("spool-" + std::to_string(lines) + output);
  spool_options.header.prompt_end = bytes;
  SpoolWriter spool(spool_options);
  std::int64_t next = 0;
  {
    PromptReaderOptions options;
    options.path = prompts.string();
    PromptReader reader(
        options, PromptLineParser({PromptFormat::json_lines, 1000, 1 << 20}, {}, tokenizer, {}),
        [&]() -> std::optional<ByteRange> {
          const std::int64_t begin = next;
          next = std::min(begin + (1 << 20), bytes);
          return begin < bytes ? std::optional(ByteRange{begin, next}) : std::nullopt;
        });
    std::vector<Request> requests;
    for (reader.wait(std::chrono::hours(1)); reader.take(requests, 64);
         reader.wait(std::chrono::hours(1))) {
      for (Request& request : requests) {
        FinishedRequest finished;
        finished.key = request.key;
        finished.line_bytes = request.line_bytes;
        finished.id = std::move(request.id);
        finished.error = std::move(request.error);
        Completion completion;
        completion.text = tokenizer.decode(request.prompt_tokens, true);
        completion.token_ids = request.prompt_tokens;
        finished.prompt_token_ids = std::move(request.prompt_tokens);
        finished.completions.push_back(std::move(completion));
        spool.put(std::move(finished));
      }
      requests.clear();
    }
  }
  spool.close();
  auto results = open_results({folder / output, true, true});
  const MergeResult merged = merge_spool(
      {spool_options.folder}, [&](std::int64_t index, std::int32_t run, FinishedRequest&& request) {
        results->add(index, run, request);
      });
  results->finish({});
  EXPECT_EQ(merged.lines, lines);
  const ResultReader reader(report_path(folder / output));
  EXPECT_EQ(gather_statistics(reader, output).requests, lines);
  std::filesystem::remove_all(spool_options.folder);
}

TEST(Memory, OfAMillionPromptsIsThatOfAThousand) {
  const TemporaryFolder folder(TemporaryFolder::Place::disk);
  const Tokenizer tokenizer = load_tokenizer(MILLRACE_TEST_DATA "/models/gpt2");
  for (const char* output : {"a.h5", "a.jsonl"}) {
    reset_peak();
    run_job(folder, tokenizer, 1000, output);
    const std::int64_t small = peak_mib();
    reset_peak();
    run_job(folder, tokenizer, many_lines, output);
    const std::int64_t large = peak_mib();
    std::printf("%s: peak of 1,000 prompts %lld MiB, of %lld prompts %lld MiB\n", output,
                static_cast<long long>(small), static_cast<long long>(many_lines),
                static_cast<long long>(large));
    EXPECT_GT(small, 0);
    EXPECT_LE(large - small, most_growth_mib);
  }
}

}  // namespace
}  // namespace millrace
