// What --resume goes on with, what it refuses, and what is left of a journal that was damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <functional>
#include <utility>

#include "core/io/spool.hpp"
#include "test/end_to_end/interrupted_job.hpp"

namespace millrace::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

fs::perms mode_of(const fs::path& path) { return fs::status(path).permissions(); }

void flip_bit(const fs::path& path, std::int64_t position) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(position);
  const auto byte = static_cast<char>(file.get() ^ 4);
  file.seekp(position);
  file.put(byte);
}

class Resume : public ::testing::Test {
 protected:
  void expect_undisturbed(const std::string& name) {
    EXPECT_TRUE(read_file(job_ / name) == job_.undisturbed());
    EXPECT_FALSE(fs::exists(job_.spool(name)));
  }
  // The journal's only file.
  fs::path spool_file(const std::string& name) const {
    return job_.spool(name) / "run-0000.replica-0000.spool";
  }

  SmallJob job_;
};

TEST_F(Resume, GoesOnOnAnotherGridAndGivesTheSameBytes) {
  job_.interrupt("o.jsonl");
  EXPECT_EQ(mode_of(spool_file("o.jsonl")), fs::perms(0600));
  EXPECT_EQ(mode_of(job_.spool("o.jsonl")), fs::perms(0700));
  const Outcome outcome =
      job_.run_to("o.jsonl", {"--resume", "--data-parallel-size=2", "--max-num-seqs=5"}, 2);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("prompts are answered by 1 earlier run"),
                                    Not(HasSubstr("answered twice"))));
  expect_undisturbed("o.jsonl");
  EXPECT_EQ(mode_of(job_ / "o.jsonl"), fs::perms(0600));

  const Outcome report = run({.program = "millrace-report", .arguments = {job_ / "o.jsonl"}});
  EXPECT_THAT(report.output, HasSubstr("runs          2: "));
  EXPECT_THAT(report.output, HasSubstr("requests      3,000, 0 with an error"));
}

TEST_F(Resume, AScriptCanAlwaysSayIt) {
  const Outcome first = job_.run_to("o.jsonl", {"--resume", "--output-mode=640"});
  ASSERT_EQ(first.exit_code, 0) << first.errors;
  expect_undisturbed("o.jsonl");
  EXPECT_EQ(mode_of(job_ / "o.jsonl"), fs::perms(0640));
  EXPECT_EQ(mode_of(job_ / "o.jsonl.report.h5"), fs::perms(0640));
  const auto written = fs::last_write_time(job_ / "o.jsonl");
  const Outcome again = job_.run_to("o.jsonl", {"--resume"});
  EXPECT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_THAT(again.errors, AllOf(HasSubstr("nothing is left to do"), Not(HasSubstr("weights"))));
  EXPECT_EQ(fs::last_write_time(job_ / "o.jsonl"), written);
}

TEST_F(Resume, AJournalIsNeitherIgnoredNorOverwrittenUnasked) {
  job_.interrupt("o.jsonl");
  const std::string journal = read_file(spool_file("o.jsonl"));
  const Outcome refused = job_.run_to("o.jsonl");
  EXPECT_EQ(refused.exit_code, 2) << refused.errors;
  EXPECT_THAT(refused.complaints(),
              testing::ElementsAre(AllOf(HasSubstr("o.jsonl.spool"), HasSubstr("--resume"),
                                         HasSubstr("--overwrite"))));
  EXPECT_TRUE(read_file(spool_file("o.jsonl")) == journal);
  const Outcome anew = job_.run_to("o.jsonl", {"--overwrite"});
  ASSERT_EQ(anew.exit_code, 0) << anew.errors;
  EXPECT_THAT(anew.errors, Not(HasSubstr("resuming")));
  expect_undisturbed("o.jsonl");
}

TEST_F(Resume, AJournalWithoutAnAnswerIsInNobodysWay) {
  SpoolWriterOptions died;  // before its first step
  died.folder = job_.spool("o.jsonl");
  died.header.prompt_end = 7;  // of another job, too
  for (const char* flag : {"--resume", "--resume=false"}) {
    SpoolWriter(died).close();
    ASSERT_TRUE(fs::exists(spool_file("o.jsonl")));
    const Outcome outcome = job_.run_to("o.jsonl", {flag});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    expect_undisturbed("o.jsonl");
    fs::remove(job_ / "o.jsonl");
    fs::remove(job_ / "o.jsonl.report.h5");
  }
}

struct Change {
  std::string name;
  std::function<void(SmallJob& job, Strings& flags)> make;
  Strings said;
};

// Copies what the job reads, so that it can be changed.
std::string copied(SmallJob& job, const fs::path& from, const std::string& name) {
  fs::copy(from, job / name, fs::copy_options::recursive);
  return job / name;
}

const std::vector<Change> changes = {
    {"Seed",
     [](SmallJob&, Strings& flags) { flags.push_back("--seed=4"); },
     {"--seed was 0, is 4"}},
    {"TwoSettings",
     [](SmallJob&, Strings& flags) {
       flags.insert(flags.end(), {"--temperature=0.5", "--stop=x"});
     },
     {"--temperature was 0.8, is 0.5", "--stop was none, is \"x\""}},
    {"Length",
     [](SmallJob&, Strings& flags) { flags.push_back("--max-model-len=99"); },
     {"--max-model-len was 256, is 99"}},
    {"CacheType",
     [](SmallJob&, Strings& flags) { flags.push_back("--kv-cache-dtype=float16"); },
     {"--kv-cache-dtype was float32, is float16"}},
    {"OneByteOfThePrompts",
     [](SmallJob& job, Strings& flags) {
       const std::string prompts = copied(job, job.prompts(), "p2.jsonl");
       flip_bit(prompts, 20'000);
       flags.push_back("--prompts=" + prompts);
     },
     {"--prompts was ", " bytes, samples "}},
    {"OneByteOfTheWeights",
     [](SmallJob& job, Strings& flags) {
       const fs::path model = copied(job, fixture("llama-tied-bias"), "model");
       flip_bit(model / "model.safetensors", 200'000);
       flags.push_back("--model=" + model.string());
     },
     {"model.safetensors was "}},
    {"Tokenizer",
     [](SmallJob& job, Strings& flags) {
       const fs::path model = copied(job, fixture("llama-tied-bias"), "model");
       std::ofstream(model / "tokenizer.json", std::ios::app) << "\n";
       flags.push_back("--model=" + model.string());
     },
     {"tokenizer.json was "}},
    {"Shard",
     [](SmallJob&, Strings& flags) { flags.push_back("--shard=0/2"); },
     {"--shard", "bytes 0 to "}},
    {"Deep",
     [](SmallJob&, Strings& flags) { flags.push_back("--deep"); },
     {"--deep", "was begun without it"}},
};

TEST_F(Resume, RefusesAnotherJobAndNamesWhatDiffers) {
  job_.interrupt("o.jsonl");
  for (const Change& change : changes) {
    SCOPED_TRACE(change.name);
    Strings flags = {"--resume"};
    fs::remove_all(job_ / "model");
    change.make(job_, flags);
    const Outcome outcome = job_.run_to("o.jsonl", flags);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    ASSERT_EQ(outcome.complaints().size(), 1U) << outcome.errors;
    for (const std::string& words : change.said) {
      EXPECT_THAT(outcome.complaints()[0], HasSubstr(words));
    }
  }
  // A model that was moved is the same model.
  const fs::path moved = copied(job_, fixture("llama-tied-bias"), "moved");
  const Outcome outcome = job_.run_to("o.jsonl", {"--resume", "--model=" + moved.string()}, 2);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  expect_undisturbed("o.jsonl");
  const Outcome other = job_.run_to("o.jsonl", {"--resume", "--seed=4"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.errors, HasSubstr("is not the result of this job: --seed was 0, is 4"));
  fs::remove(job_ / "o.jsonl.report.h5");
  const Outcome nameless = job_.run_to("o.jsonl", {"--resume"});
  EXPECT_EQ(nameless.exit_code, 2);
  EXPECT_THAT(nameless.errors, AllOf(HasSubstr("is not the result of this job"),
                                     HasSubstr("o.jsonl.report.h5, which would say whose it is")));
  EXPECT_EQ(job_.run_to("o.jsonl", {"--resume", "--overwrite"}).exit_code, 0);
}

TEST_F(Resume, WithDeepEveryByteCounts) {
  const fs::path model = copied(job_, fixture("llama-tied-bias"), "model");
  const Strings flags = {"--deep", "--resume", "--model=" + model.string()};
  job_.interrupt("o.jsonl", flags);
  flip_bit(model / "model.safetensors", 200'000);
  const Outcome outcome = job_.run_to("o.jsonl", flags, 2);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("every byte of model.safetensors was "));
  flip_bit(model / "model.safetensors", 200'000);
  const Outcome mended = job_.run_to("o.jsonl", flags, 2);
  ASSERT_EQ(mended.exit_code, 0) << mended.errors;
  expect_undisturbed("o.jsonl");
}

// Ranks read the pieces of a file in turns, however many there were when the job began.
TEST_F(Resume, WithDeepAByteBetweenTheSamplesCountsToo) {
  Strings flags = {"--deep", "--resume", "--prompts=" + (job_ / "many.jsonl")};
  {
    const std::string some = read_file(job_.prompts());
    std::ofstream many(job_ / "many.jsonl", std::ios::binary);
    for (std::size_t bytes = 0; bytes < 40'000'000; bytes += some.size()) many << some;
  }
  const std::int64_t size = static_cast<std::int64_t>(fs::file_size(job_ / "many.jsonl"));
  job_.interrupt("o.jsonl", flags);
  const std::int64_t position = size / 33 * 8 + 8192;  // behind the eighth of 32 samples
  flip_bit(job_ / "many.jsonl", position);
  const Outcome outcome = job_.run_to("o.jsonl", flags, 3);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("every byte of --prompts was "), Not(HasSubstr(": --prompts was "))));
  flip_bit(job_ / "many.jsonl", position);
  Launch mended = job_.launch("o.jsonl", flags, 2);
  const std::int64_t before = bytes_in(job_.spool("o.jsonl"));
  bool goes_on = false;
  mended.meanwhile = [&](int process, double) {
    goes_on = goes_on || bytes_in(job_.spool("o.jsonl")) > before + 50'000;
    if (goes_on) kill(-process, SIGKILL);
  };
  run(mended);
  EXPECT_TRUE(goes_on);
}

struct Damage {
  std::string name;
  std::function<void(const fs::path& spool)> make;
  std::string said;
};

const std::vector<Damage> damages = {
    {"TornTail", [](const fs::path& spool) { fs::resize_file(spool, fs::file_size(spool) - 5); },
     "bytes torn off"},
    {"BitsInTheMiddle",
     [](const fs::path& spool) {
       for (const int position : {20'000, 40'000, 60'000, 60'001}) {
         flip_bit(spool, position);
       }
     },
     "damaged"},
    {"Zeroes",
     [](const fs::path& spool) {
       std::fstream file(spool, std::ios::in | std::ios::out | std::ios::binary);
       file.seekp(50'000);
       file << std::string(4096, '\0');
     },
     "damaged"},
    {"NoHeader", [](const fs::path& spool) { flip_bit(spool, 30); }, "without a sound header"},
    {"Empty", [](const fs::path& spool) { fs::resize_file(spool, 0); }, "without a sound header"},
};

TEST_F(Resume, KeepsWhatIsSoundOfADamagedJournalAndAnswersTheRestAgain) {
  job_.interrupt("sound.jsonl");
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    fs::copy(job_.spool("sound.jsonl"), job_.spool("o.jsonl"));
    damage.make(spool_file("o.jsonl"));
    const Outcome outcome = job_.run_to("o.jsonl", {"--resume"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_THAT(outcome.errors,
                AllOf(HasSubstr("o.jsonl.spool is damaged: "), HasSubstr(damage.said)));
    if (damage.said != "without a sound header") {
      EXPECT_THAT(outcome.errors, Not(HasSubstr("resuming: 0 prompts")));
    }
    expect_undisturbed("o.jsonl");
    fs::remove(job_ / "o.jsonl");
    fs::remove(job_ / "o.jsonl.report.h5");
  }
}

TEST_F(Resume, OfAJobThatOnlyLacksItsResultLoadsNoModel) {
  // The output's folder goes away while the job runs: the journal's file stays open.
  fs::create_directory(job_ / "out");
  Launch start = job_.launch("out/o.jsonl");
  bool moved = false;
  start.meanwhile = [&](int, double) {
    if (!moved && bytes_in(job_.spool("out/o.jsonl")) > 50'000) {
      fs::rename(job_ / "out", job_ / "away");
      moved = true;
    }
  };
  const Outcome failed = run(start);
  ASSERT_TRUE(moved);
  EXPECT_EQ(failed.exit_code, 2) << failed.errors;
  EXPECT_EQ(failed.complaints().size(), 1U) << failed.errors;
  EXPECT_FALSE(fs::exists(job_ / "away/o.jsonl"));
  fs::rename(job_ / "away", job_ / "out");
  const Outcome outcome = job_.run_to("out/o.jsonl", {"--resume"}, 2);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("3,000 prompts are answered by 1 earlier run"),
                                    Not(HasSubstr("weights"))));
  expect_undisturbed("out/o.jsonl");
}

// Nothing is wrong with the second job: the same command will do when the first has ended.
TEST_F(Resume, OfAJobThatStillRunsIsPutOffAndNamesIt) {
  // Stopped, so that it lives for as long as the second job is patient.
  Launch start = job_.launch("o.jsonl");
  std::string status;
  start.meanwhile = [&](int process, double) {
    if (!status.empty() || bytes_in(job_.spool("o.jsonl")) < 50'000) return;
    kill(process, SIGSTOP);
    for (const auto& [ranks, flag] : {std::pair(0, "--resume"), std::pair(2, "--overwrite")}) {
      const Outcome second = job_.run_to("o.jsonl", {flag}, ranks);
      EXPECT_EQ(second.exit_code, 75) << second.errors;
      EXPECT_THAT(second.complaints(),
                  testing::ElementsAre(testing::MatchesRegex(
                      "millrace: .*o.jsonl.spool is being written by another job \\(process " +
                      std::to_string(process) +
                      " on host [^ ]+\\); when that has ended, run again with --resume")))
          << second.errors;
    }
    status =
        run({.program = "millrace-report", .arguments = {"--journal", job_ / "o.jsonl"}}).output;
    kill(process, SIGCONT);
  };
  const Outcome outcome = run(start);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(status, HasSubstr("wait: the job runs, process "));
  expect_undisturbed("o.jsonl");
}

TEST_F(Resume, TwoJobsThatBeginAtOnceGiveOneResult) {
  Launch start = job_.launch("o.jsonl", {"--resume"});
  Outcome second;
  bool started = false;
  start.meanwhile = [&](int, double) {
    if (std::exchange(started, true)) return;
    second = job_.run_to("o.jsonl", {"--resume"});
  };
  const Outcome first = run(start);
  for (const Outcome& outcome : {first, second}) {
    EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 75) << outcome.errors;
  }
  EXPECT_TRUE(first.exit_code == 0 || second.exit_code == 0);
  EXPECT_THAT(first.errors + second.errors, Not(HasSubstr("answered twice")));
  expect_undisturbed("o.jsonl");
}

}  // namespace
}  // namespace millrace::test
