#include "core/io/spool.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <thread>

#include "core/io/spool_frame.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

class Spool : public testing::Test {
 protected:
  SpoolWriterOptions options(std::int32_t replica = 0, std::int32_t run = 0) const {
    SpoolWriterOptions options;
    options.folder = folder_ / "out.h5.spool";
    options.header.fingerprint = {{{"model", "m"}, {"--stop", "a\nb"}}, {{"every byte", "0f"}}};
    options.header.prompt_end = 1000;
    options.header.run = run;
    options.header.replica = replica;
    options.header.prompt_file = "/p.jsonl";
    options.header.settings = {{"seed", "3"}};
    return options;
  }

  // A file of `count` results; its path.
  std::filesystem::path write(int count) {
    SpoolWriter writer(options());
    for (int i = 0; i < count; ++i) {
      writer.put(sample_result(i));
    }
    writer.close();
    return writer.path();
  }

  struct Contents {
    std::vector<FinishedRequest> results;
    SpoolDamage damage;
  };
  static Contents read(const std::filesystem::path& path) {
    Contents contents;
    const PosixFile file = PosixFile::open(path);
    SpoolReader reader(path);
    while (const auto entry = reader.next()) {
      contents.results.push_back(read_request(file, *entry));
      EXPECT_EQ(entry->line_offset, contents.results.back().key.offset);
      EXPECT_EQ(entry->line_bytes, contents.results.back().line_bytes);
    }
    contents.damage = reader.damage();
    return contents;
  }

  TemporaryFolder folder_;
};

TEST_F(Spool, GivesBackWhatWasPut) {
  const auto path = write(50);
  const Contents contents = read(path);
  ASSERT_EQ(contents.results.size(), 50U);
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(same(contents.results[static_cast<std::size_t>(i)], sample_result(i))) << i;
  }
  EXPECT_FALSE(contents.damage.any());
  const SpoolHeader header = SpoolReader(path).header();
  EXPECT_EQ(header.fingerprint.parts,
            (std::vector<FingerprintPart>{{"model", "m"}, {"--stop", "a\nb"}}));
  EXPECT_EQ(header.fingerprint.every_byte, (std::vector<FingerprintPart>{{"every byte", "0f"}}));
  EXPECT_EQ(header.prompt_file, "/p.jsonl");
  EXPECT_EQ(header.settings, (decltype(header.settings){{"seed", "3"}}));
  EXPECT_EQ(header.prompt_end, 1000);
}

TEST_F(Spool, IsPrivate) {
  struct stat status {};
  ASSERT_EQ(::stat(write(1).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat(options().folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
}

TEST_F(Spool, FlushedResultsAreReadableWhileTheWriterLives) {
  SpoolWriter writer(options());
  writer.put(sample_result(3));
  writer.flush();
  EXPECT_EQ(read(writer.path()).results.size(), 1U);
}

TEST_F(Spool, IsReadToTheLastWholeFrameWhereverItIsCut) {
  const auto path = write(4);
  const std::string whole = read_file(path);
  std::size_t results_before = 0;
  std::size_t readable = 0;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    write_file(path, whole.substr(0, length));
    try {
      const Contents contents = read(path);
      ++readable;
      ASSERT_GE(contents.results.size(), results_before);
      results_before = contents.results.size();
      for (std::size_t i = 0; i < contents.results.size(); ++i) {
        ASSERT_TRUE(same(contents.results[i], sample_result(static_cast<std::int64_t>(i))));
      }
      ASSERT_LT(contents.damage.torn_bytes, static_cast<std::int64_t>(length));
    } catch (const UserError&) {
      ASSERT_EQ(readable, 0U) << "only a cut header makes the file unreadable, not " << length;
    }
  }
  EXPECT_EQ(results_before, 4U);
}

TEST_F(Spool, EveryFlippedBitIsNoticedAndCostsAtMostOneFrameOrTheRest) {
  const auto path = write(3);
  const std::string whole = read_file(path);
  for (std::size_t bit = 0; bit < whole.size() * 8; bit += 3) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    write_file(path, flipped);
    try {
      const Contents contents = read(path);
      ASSERT_TRUE(contents.damage.any()) << "bit " << bit;
      for (const FinishedRequest& result : contents.results) {
        ASSERT_TRUE(same(result, sample_result(result.key.offset))) << "bit " << bit;
      }
      if (contents.damage.torn_bytes == 0) {
        ASSERT_EQ(contents.results.size(), 2U) << "bit " << bit;
      }
    } catch (const UserError&) {
    }
  }
}

TEST_F(Spool, ZerosAtTheEndAreATornTail) {
  const auto path = write(2);
  write_file(path, read_file(path) + std::string(4096, '\0'));
  const Contents contents = read(path);
  EXPECT_EQ(contents.results.size(), 2U);
  EXPECT_EQ(contents.damage.torn_bytes, 4096);
}

TEST_F(Spool, RefusesWhatIsNoSpoolOrNewer) {
  const auto path = folder_ / "x.spool";
  write_file(path, "something else");
  EXPECT_THAT([&] { SpoolReader reader(path); },
              testing::ThrowsMessage<UserError>(testing::HasSubstr("is not a spool file")));
  std::vector<std::byte> frame;
  append_frame(frame, SpoolHeader{});
  // The version is the payload's first field; put a matching checksum on a later one.
  frame[frame_header_bytes] = std::byte{99};
  const auto payload = std::span(frame).subspan(frame_header_bytes);
  EXPECT_THAT([&] { decode_spool_header(payload); },
              testing::ThrowsMessage<UserError>(testing::HasSubstr("version 99")));
}

TEST_F(Spool, NeverAppendsToAnotherRunsFile) {
  write(1);
  EXPECT_THROW(SpoolWriter(options(0, 0)), UserError);
  EXPECT_EQ(next_spool_run(options().folder), 1);
  SpoolWriter second(options(0, 1));
  second.close();
  EXPECT_EQ(spool_files(options().folder).size(), 2U);
  EXPECT_EQ(next_spool_run(options().folder), 2);
  EXPECT_EQ(next_spool_run(folder_ / "none"), 0);
}

TEST_F(Spool, ManyThreadsMayPutThroughASmallQueue) {
  SpoolWriterOptions small = options();
  small.queue_bytes = 2000;
  small.sync_seconds = 0.001;
  SpoolWriter writer(small);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&writer, thread] {
      for (int i = 0; i < 100; ++i) {
        writer.put(sample_result(thread * 100 + i));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  writer.close();
  EXPECT_EQ(read(writer.path()).results.size(), 400U);
}

TEST_F(Spool, AFullDiskIsAnErrorAndKeepsWhatWasWritten) {
  // RLIMIT_FSIZE makes write() fail as a full disk does (EFBIG instead of ENOSPC).
  struct Limit {
    Limit() {
      ::signal(SIGXFSZ, SIG_IGN);
      ::getrlimit(RLIMIT_FSIZE, &before);
      rlimit limit = before;
      limit.rlim_cur = 3000;
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~Limit() {
      ::setrlimit(RLIMIT_FSIZE, &before);
      ::signal(SIGXFSZ, SIG_DFL);
    }
    rlimit before{};
  };
  std::filesystem::path path;
  {
    const Limit limit;
    SpoolWriter writer(options());
    path = writer.path();
    EXPECT_THAT(
        [&] {
          for (int i = 0; i < 100000; ++i) {
            writer.put(sample_result(i));
          }
          writer.close();
        },
        testing::ThrowsMessage<UserError>(testing::HasSubstr("cannot write")));
    EXPECT_THROW(writer.close(), UserError);
  }
  const Contents contents = read(path);
  EXPECT_GT(contents.results.size(), 5U);
  for (std::size_t i = 0; i < contents.results.size(); ++i) {
    EXPECT_TRUE(same(contents.results[i], sample_result(static_cast<std::int64_t>(i))));
  }
}

}  // namespace
}  // namespace millrace
