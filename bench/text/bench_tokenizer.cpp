// Tokenizing on one thread: bytes and tokens per second of encoding prompts of about 4 KB, of
// decoding them token by token, and the time to load a tokenizer.
//
//   MILLRACE_BENCH_TOKENIZERS=DIR  a folder of model folders (default: the tests' small tokenizers)
//   MILLRACE_BENCH_PROMPTS=FILE    prompts, each ended by a NUL byte (default: this repository's
//   text)
//
// bench/peers/tokenizers_speed.py prepares both and runs Hugging Face's `tokenizers` on the same.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "core/text/detokenizer.hpp"
#include "core/text/tokenizer.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Sources and documents of this repository, cut at line ends.
std::vector<std::string> repository_prompts() {
  std::vector<fs::path> files;
  for (const char* folder : {"apps", "bench", "comm", "core", "kernels", "test"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(MILLRACE_SOURCE_DIR) / folder)) {
      const std::string type = entry.path().extension().string();
      if (type == ".cpp" || type == ".hpp" || type == ".py" || type == ".md") {
        files.push_back(entry.path());
      }
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> prompts;
  for (const fs::path& file : files) {
    const std::string text = read(file);
    for (std::size_t begin = 0; begin < text.size();) {
      std::size_t end = text.find('\n', begin + 4000);
      end = end == std::string::npos ? text.size() : end + 1;
      prompts.push_back(text.substr(begin, end - begin));
      begin = end;
    }
  }
  return prompts;
}

const std::vector<std::string>& prompts() {
  static const std::vector<std::string> all = [] {
    const char* path = std::getenv("MILLRACE_BENCH_PROMPTS");
    if (path == nullptr) return repository_prompts();
    std::vector<std::string> given;
    const std::string text = read(path);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\0', begin), text.size());
      given.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return given;
  }();
  return all;
}

std::size_t prompt_bytes() {
  std::size_t bytes = 0;
  for (const std::string& prompt : prompts()) bytes += prompt.size();
  return bytes;
}

void report(benchmark::State& state, std::size_t tokens) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(prompt_bytes()));
  state.counters["tokens"] = static_cast<double>(tokens);
  state.counters["tokens_per_second"] = benchmark::Counter(
      static_cast<double>(tokens), benchmark::Counter::kIsIterationInvariantRate);
}

void encode(benchmark::State& state, const fs::path& folder) {
  const Tokenizer tokenizer = load_tokenizer(folder);
  std::size_t tokens = 0;
  uint64_t checksum = 0;  // the driver compares it with its own
  for (const std::string& prompt : prompts()) {
    for (const int32_t id : tokenizer.encode(prompt, false)) {
      checksum = (checksum * 31 + static_cast<uint64_t>(id)) % 1'000'000'007;
      ++tokens;
    }
  }
  for (auto _ : state) {
    for (const std::string& prompt : prompts()) {
      benchmark::DoNotOptimize(tokenizer.encode(prompt, false));
    }
  }
  report(state, tokens);
  state.counters["checksum"] = static_cast<double>(checksum);
}

void decode(benchmark::State& state, const fs::path& folder) {
  const Tokenizer tokenizer = load_tokenizer(folder);
  std::vector<std::vector<int32_t>> encoded;
  std::size_t tokens = 0;
  for (const std::string& prompt : prompts()) {
    encoded.push_back(tokenizer.encode(prompt, false));
    tokens += encoded.back().size();
  }
  for (auto _ : state) {
    for (const std::vector<int32_t>& ids : encoded) {
      Detokenizer detokenizer(tokenizer, true);
      for (const int32_t id : ids) benchmark::DoNotOptimize(detokenizer.push(id));
      benchmark::DoNotOptimize(detokenizer.finish());
    }
  }
  report(state, tokens);
}

void load(benchmark::State& state, const fs::path& folder) {
  for (auto _ : state) benchmark::DoNotOptimize(load_tokenizer(folder));
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  using namespace millrace;
  const char* given = std::getenv("MILLRACE_BENCH_TOKENIZERS");
  const fs::path folder =
      given != nullptr ? fs::path(given) : fs::path(MILLRACE_SOURCE_DIR) / "test/data/tokenizers";
  std::vector<fs::path> models;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (fs::exists(entry.path() / "tokenizer.json")) models.push_back(entry.path());
  }
  std::sort(models.begin(), models.end());
  for (const fs::path& model : models) {
    const std::string name = model.filename().string();
    const auto add = [&](const std::string& what, auto function) {
      benchmark::RegisterBenchmark((what + "/" + name).c_str(), function, model)
          ->Unit(benchmark::kMillisecond);
    };
    add("encode", encode);
    add("decode", decode);
    add("load", load);
  }
  benchmark::AddCustomContext("prompt_bytes", std::to_string(prompt_bytes()));
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
