// Prompt lines and spool files are read from the outside: whatever their bytes, the answer is a
// result, an error with a name, or damage that was counted. Sanitizers watch the rest.
#include <gtest/gtest.h>

#include "core/batch/request.hpp"
#include "core/io/byte_codec.hpp"
#include "core/io/merge.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/prompt_line.hpp"
#include "core/io/spool.hpp"
#include "core/io/spool_frame.hpp"
#include "core/text/tokenizer.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"
#include "test/fuzz/mutate.hpp"

namespace millrace {
namespace {

TEST(PromptLineFuzz, EveryLineIsARequestOrAnError) {
  const Tokenizer tokenizer = load_tokenizer(MILLRACE_TEST_DATA "/models/gpt2");
  const RenderChat render = [](std::string_view messages, bool, std::string_view) {
    return std::string(messages);
  };
  PromptLineParser json({PromptFormat::json_lines, 200, 300}, {}, tokenizer, render);
  PromptLineParser text({PromptFormat::text, 200, 300}, {}, tokenizer, render);
  const std::vector<std::string> lines = {
      R"({"id": "a", "prompt": "Hello \u00e9\ud83d\ude42 \"x\"\n", "temperature": 0.5, "max_tokens": 10})",
      R"({"prompt": [1, 2, 3], "stop": ["\n\n", "END"], "stop_token_ids": [1, 2], "seed": 7, "n": 2})",
      R"({"messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"a": [1, {}]}})",
      R"({"id": 12, "prompt": "x", "logit_bias": {"5": -1.5}, "top_k": null, "ignore_eos": true})",
  };
  const std::vector<std::string> dictionary = {"\"prompt\":",
                                               "\"n\":",
                                               "\"id\":",
                                               "\\ud800",
                                               "\\u0000",
                                               "1e999",
                                               "-9223372036854775809",
                                               "[[[[",
                                               "{\"a\":{",
                                               "null",
                                               "true",
                                               "\xff",
                                               "\xe2\x82",
                                               ",,",
                                               "\"\"",
                                               "}"};
  for (int run = 0; run < fuzz::runs(2000); ++run) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(run), dictionary);
    const std::string line = mutator.mutate(lines[static_cast<std::size_t>(run) % lines.size()]);
    for (PromptLineParser* parser : {&json, &text}) {
      const Request request = parser->parse(run, line);
      ASSERT_EQ(request.key.offset, run);
      ASSERT_NE(request.error.empty(), request.prompt_tokens.empty()) << line;
      if (request.error.empty()) {
        ASSERT_LT(request.prompt_tokens.size(), 200U);
        ASSERT_NO_THROW(validate(request.sampling)) << line;
      }
    }
  }
}

TEST(SpoolFuzz, EveryFileIsReadOrRefusedAndNothingFalseComesOut) {
  const TemporaryFolder folder;
  SpoolWriterOptions options;
  options.folder = folder / "spool";
  options.header.fingerprint.parts = {{"model", "fingerprint"}};
  options.header.prompt_end = 50;
  SpoolWriter writer(options);
  for (int i = 0; i < 5; ++i) {
    writer.put(sample_result(i * 10));
  }
  writer.close();
  const std::string whole = read_file(writer.path());
  for (int run = 0; run < fuzz::runs(2000); ++run) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(run), {"millrspl", whole.substr(8, 16)});
    write_file(writer.path(), mutator.mutate(whole));
    try {
      SpoolReader reader(writer.path());
      const PosixFile file = PosixFile::open(writer.path());
      while (const auto entry = reader.next()) {
        // What has a sound checksum is what was written.
        const FinishedRequest request = read_request(file, *entry);
        ASSERT_TRUE(same(request, sample_result(request.key.offset)));
      }
    } catch (const UserError&) {
    }
    try {
      merge_spool({folder / "spool"}, [](std::int64_t, std::int32_t, FinishedRequest&&) {});
    } catch (const UserError&) {
    }
  }
}

TEST(SpoolFuzz, PayloadsThatPassTheChecksumByChanceDecodeOrAreRefused) {
  std::vector<std::byte> frame;
  append_frame(frame, sample_result(12));
  const std::string payload(reinterpret_cast<const char*>(frame.data()) + frame_header_bytes,
                            frame.size() - frame_header_bytes);
  for (int run = 0; run < fuzz::runs(2000); ++run) {
    fuzz::Mutator mutator(static_cast<std::uint64_t>(run));
    const std::string bytes = mutator.mutate(payload);
    try {
      decode_request(std::as_bytes(std::span(bytes)));
    } catch (const CodecError&) {
    }
  }
}

}  // namespace
}  // namespace millrace
