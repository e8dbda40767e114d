// Flags, variables and files become one validated RunConfig; mistakes are named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/config/run_config.hpp"
#include "kernels/base/error.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

using Strings = std::vector<std::string>;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Strings kRequired = {"--model", "m", "--prompts", "p.jsonl", "--output", "o.h5"};

Strings with_required(const Strings& more) {
  Strings arguments = kRequired;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Settings settings_of(const Strings& more, const Strings& environment = {}) {
  RunConfig names;
  return read_settings(run_flags(names), with_required(more), environment);
}

RunConfig config_of(const Strings& more, const Strings& environment = {}) {
  return make_run_config(settings_of(more, environment).values);
}

std::string error_of(const Strings& more, const Strings& environment = {}) {
  try {
    config_of(more, environment);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// A config file.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) : path_(folder_.write("run.cfg", text)) {}
  std::string path() const { return path_; }

 private:
  const TemporaryFolder folder_;
  const std::filesystem::path path_;
};

TEST(RunConfig, DefaultsAreTheOnesThatHelpStates) {
  const RunConfig config = config_of({});
  EXPECT_EQ(config.engine.max_num_seqs, std::nullopt);
  EXPECT_EQ(config.engine.max_num_batched_tokens, std::nullopt);
  EXPECT_EQ(config.engine.block_size, 16);
  EXPECT_DOUBLE_EQ(config.engine.gpu_memory_utilization, 0.92);
  EXPECT_FALSE(config.sampling.max_tokens.has_value());
  EXPECT_EQ(config.sampling.seed, 0U);
  EXPECT_FALSE(config.grid.tensor_parallel_size.has_value());
  EXPECT_FALSE(config.sampling.temperature.has_value());
  EXPECT_FALSE(config.model.dtype.has_value());
}

TEST(RunConfig, LoadStrategiesHaveTheirNames) {
  EXPECT_EQ(config_of({}).model.load_strategy, LoadStrategy::automatic);
  EXPECT_EQ(config_of({"--load-strategy", "read"}).model.load_strategy, LoadStrategy::read);
  EXPECT_EQ(config_of({"--load-strategy=broadcast"}).model.load_strategy, LoadStrategy::broadcast);
  EXPECT_THAT(error_of({"--load-strategy", "torrent"}), HasSubstr("'torrent'"));
}

TEST(RunConfig, TwoLetterShortFormsEqualTheLongOnes) {
  const RunConfig config = config_of({"-tp", "2", "-pp=3", "--data-parallel-size=4"});
  EXPECT_EQ(config.grid.tensor_parallel_size, 2);
  EXPECT_EQ(config.grid.pipeline_parallel_size, 3);
  EXPECT_EQ(config.grid.data_parallel_size, 4);
}

TEST(RunConfig, CommandLineWinsOverEnvironmentWinsOverFile) {
  const TemporaryFile file("block-size = 8  # tokens\nmax-num-seqs = 7\nseed = 3\n");
  const Strings environment = {"MILLRACE_MAX_NUM_SEQS=6", "MILLRACE_SEED=2"};
  const RunConfig config = config_of({"--config", file.path(), "--seed", "1"}, environment);
  EXPECT_EQ(config.engine.block_size, 8);
  EXPECT_EQ(config.engine.max_num_seqs, 6);
  EXPECT_EQ(config.sampling.seed, 1U);
  EXPECT_THAT(config.settings,
              AllOf(Contains(Setting{"block-size", "8", SettingSource::file}),
                    Contains(Setting{"max-num-seqs", "6", SettingSource::environment}),
                    Contains(Setting{"seed", "1", SettingSource::command_line}),
                    Contains(Setting{"device", "auto", SettingSource::built_in})));
}

TEST(RunConfig, SettingsAloneRebuildTheConfig) {
  const RunConfig config = config_of({"--stop", "a", "--stop", "b c", "--overwrite", "-tp", "2"});
  const RunConfig again = make_run_config(config.settings);
  EXPECT_THAT(again.sampling.stop, ElementsAre("a", "b c"));
  EXPECT_TRUE(again.output.overwrite);
  EXPECT_EQ(again.grid.tensor_parallel_size, 2);
  EXPECT_EQ(again.settings, config.settings);
}

TEST(RunConfig, TogglesTakeNoValueUnlessItIsJoined) {
  EXPECT_TRUE(config_of({"--ignore-eos"}).sampling.ignore_eos);
  EXPECT_EQ(config_of({"--skip-special-tokens=false"}).sampling.skip_special_tokens, false);
  EXPECT_FALSE(config_of({"--overwrite=no"}).output.overwrite);
  EXPECT_THAT(error_of({"--overwrite", "yes"}), HasSubstr("unexpected argument 'yes'"));
  EXPECT_EQ(error_of({"--overwrite=maybe"}),
            "--overwrite: 'maybe' is not one of true, yes, on, 1, false, no, off, 0");
}

TEST(RunConfig, NumbersReadSuffixesAsVllmDoes) {
  EXPECT_EQ(config_of({"--max-model-len", "4k"}).model.max_model_len, 4000);
  EXPECT_EQ(config_of({"--max-model-len", "4K"}).model.max_model_len, 4096);
  EXPECT_EQ(config_of({"--kv-cache-memory-bytes", "1.5GiB"}).engine.kv_cache_memory_bytes,
            1610612736);
  EXPECT_EQ(config_of({"--kv-cache-memory-bytes", "2MB"}).engine.kv_cache_memory_bytes, 2000000);
  EXPECT_EQ(config_of({"--kv-cache-memory-bytes", "12345"}).engine.kv_cache_memory_bytes, 12345);
}

TEST(RunConfig, TimesAreSecondsOrHoursMinutesAndSeconds) {
  EXPECT_EQ(config_of({}).stop.time_limit_seconds, std::nullopt);
  EXPECT_EQ(config_of({"--time-limit", "90.5"}).stop.time_limit_seconds, 90.5);
  EXPECT_EQ(config_of({"--time-limit", "01:30:05"}).stop.time_limit_seconds, 5405);
  EXPECT_EQ(config_of({"--time-limit", "100:00:00"}).stop.time_limit_seconds, 360000);
  EXPECT_EQ(config_of({"--time-limit", "0"}).stop.time_limit_seconds, 0);
  for (const std::string wrong :
       {"soon", "-1", "1:2:3", "01:60:00", "01:30", "01:30:05:00", "::", "01:30:5x"}) {
    EXPECT_EQ(error_of({"--time-limit", wrong}),
              "--time-limit: '" + wrong + "' is not a time such as 5400 (seconds) or 01:30:00");
  }
}

TEST(RunConfig, ATimeLimitMustLeaveTimeToWork) {
  EXPECT_EQ(error_of({"--time-limit", "40"}),
            "--time-limit 40 leaves no time: --grace-period 30 and 10 seconds for closing are part "
            "of it");
  EXPECT_EQ(error_of({"--time-limit", "41"}), "no error");
  EXPECT_EQ(error_of({"--time-limit", "12", "--grace-period", "1"}), "no error");
}

TEST(RunConfig, BadValuesNameTheFlagTheValueAndWhatIsWanted) {
  EXPECT_EQ(error_of({"--max-num-seqs", "0"}),
            "--max-num-seqs: '0' is not a whole number from 1 to 1048576");
  EXPECT_EQ(error_of({"--block-size=16x"}),
            "--block-size: '16x' is not a whole number from 1 to 1024");
  EXPECT_EQ(error_of({"--top-p", "1.5"}), "--top-p: '1.5' is not a number from 0 to 1");
  EXPECT_EQ(error_of({"--temperature", "-1"}), "--temperature: '-1' is not a number of at least 0");
  EXPECT_EQ(error_of({"--temperature", "nan"}),
            "--temperature: 'nan' is not a number of at least 0");
  EXPECT_EQ(error_of({"--device", "tpu"}), "--device: 'tpu' is not one of auto, cpu, cuda");
  EXPECT_EQ(error_of({"--dtype", "int8"}),
            "--dtype: 'int8' is not one of auto, float32, bfloat16, float16, float, half");
  EXPECT_THAT(error_of({"--kv-cache-memory-bytes", "9999999TiB"}), HasSubstr("'9999999TiB'"));
  EXPECT_THAT(error_of({"--kv-cache-memory-bytes", "-4"}), HasSubstr("'-4'"));
  EXPECT_THAT(error_of({"--pipeline-partition", "3,,3"}), HasSubstr("'3,,3' is not a list"));
  EXPECT_EQ(error_of({"--seed", "-1"}),
            "--seed: '-1' is not a whole number from 0 to 18446744073709551615");
}

TEST(RunConfig, BadValuesNameWhereTheyCameFrom) {
  EXPECT_EQ(error_of({}, {"MILLRACE_SEED=x"}),
            "--seed (from MILLRACE_SEED): 'x' is not a whole number from 0 to "
            "18446744073709551615");
  const TemporaryFile file("seed = y\n");
  EXPECT_THAT(error_of({"--config", file.path()}), HasSubstr("--seed (from the config file): 'y'"));
}

TEST(RunConfig, UnknownFlagsSuggestTheNearest) {
  EXPECT_EQ(error_of({"--tensor-paralel-size", "2"}),
            "unknown flag --tensor-paralel-size; did you mean --tensor-parallel-size?");
  EXPECT_EQ(error_of({"--quality", "2"}), "unknown flag --quality; see --help");
  EXPECT_EQ(error_of({"--tp", "2"}),
            "unknown flag --tp; did you mean --tensor-parallel-size (-tp)?");
  EXPECT_EQ(error_of({"-seed=4"}), "unknown flag -seed; did you mean --seed?");
}

TEST(RunConfig, FlagsAreNotGuessedFromTheirBeginning) {
  EXPECT_THAT(error_of({"--max-num", "2"}), HasSubstr("unknown flag --max-num"));
}

TEST(RunConfig, MistakesOfTheCommandLineAreNamed) {
  EXPECT_EQ(error_of({"--seed"}), "--seed needs a value");
  EXPECT_EQ(error_of({"--seed", "1", "--seed", "2"}), "--seed is given twice");
  EXPECT_THAT(error_of({"prompts.txt"}), HasSubstr("unexpected argument 'prompts.txt'"));
  EXPECT_EQ(error_of({"-q"}), "unknown flag -q; see --help");
  EXPECT_EQ(error_of({"--config", "/nonexistent/run.cfg"}),
            "--config: cannot open '/nonexistent/run.cfg'");
}

TEST(RunConfig, AConfigFileHoldsCommentsAndQuotedText) {
  const TemporaryFile file(
      "# all of it\n\n  \t\r\nseed = 7 # lucky\r\n\tmodel=/models/a#1\nstop = x y \t#\n"
      "stop = \"###\" # hashes\nstop=\"\\n\"\nstop = \" \\\"#\"\noverwrite = yes\n"
      "max-tokens = 5");
  RunConfig names;
  const Settings settings = read_settings(
      run_flags(names), Strings{"--prompts=p.txt", "--output=o.h5", "--config", file.path()}, {});
  const RunConfig config = make_run_config(settings.values);
  EXPECT_EQ(config.sampling.seed, 7U);
  EXPECT_EQ(config.model.model, "/models/a#1");
  EXPECT_THAT(config.sampling.stop, ElementsAre("x y", "###", "\n", " \"#"));
  EXPECT_TRUE(config.output.overwrite);
  EXPECT_EQ(config.sampling.max_tokens, 5);
}

TEST(RunConfig, MistakesOfAConfigFileAreNamedWithTheirLine) {
  const auto error_in = [](const std::string& line) {
    const TemporaryFile file("\n" + line + "\n");
    const std::string error = error_of({"--config", file.path()});
    const std::string place = file.path() + ", line 2: ";
    EXPECT_THAT(error, ::testing::StartsWith(place)) << line;
    return error.substr(std::min(place.size(), error.size()));
  };
  EXPECT_EQ(error_in("max_num_seqs = 3"),
            "unknown flag --max_num_seqs; did you mean --max-num-seqs?");
  EXPECT_EQ(error_in("overwrite"), "a line is `name = value`, not 'overwrite'");
  EXPECT_EQ(error_in("[engine]"), "a line is `name = value`, not '[engine]'");
  EXPECT_EQ(error_in("--seed = 3"), "a line is `name = value`, not '--seed = 3'");
  EXPECT_EQ(error_in("= 3"), "a line is `name = value`, not '= 3'");
  EXPECT_EQ(error_in("stop # = 3"), "a line is `name = value`, not 'stop # = 3'");
  EXPECT_EQ(error_in("stop = ### "), "stop has no value; text with a `#` stands in double quotes");
  for (const std::string text : {"\"a", "\"a\" b", "\"\\x\"", "\"a\\\"", "\""}) {
    EXPECT_EQ(error_in("stop = " + text), "text in double quotes is a JSON string, not " + text);
  }
  const TemporaryFile twice("seed = 3\nseed = 4\n");
  EXPECT_EQ(error_of({"--config", twice.path()}), twice.path() + ", line 2: --seed is given twice");
}

TEST(RunConfig, RequiredFlagsAreNamedWhenMissing) {
  for (const std::string flag : {"model", "prompts", "output"}) {
    Strings arguments = kRequired;
    const auto found = std::ranges::find(arguments, "--" + flag);
    arguments.erase(found, found + 2);
    try {
      parse_run_config(arguments);
      ADD_FAILURE() << flag;
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()), "--" + flag + " is required; see --help");
    }
  }
}

TEST(RunConfig, ValuesThatContradictEachOtherAreRejected) {
  EXPECT_THAT(error_of({"--max-num-batched-tokens", "100", "--max-num-seqs", "101"}),
              HasSubstr("--max-num-batched-tokens 100 is less than --max-num-seqs 101"));
  EXPECT_THAT(error_of({"--pipeline-partition", "8,8", "-pp", "3"}),
              HasSubstr("names 2 stages but --pipeline-parallel-size is 3"));
  EXPECT_THAT(error_of({"--output=x.csv"}), HasSubstr("given twice"));
}

TEST(RunConfig, FilesOfAnotherKindAreRejected) {
  const auto parse = [](const std::string& prompts, const std::string& output) {
    return parse_run_config(Strings{"--model=m", "--prompts=" + prompts, "--output=" + output});
  };
  EXPECT_NO_THROW(parse("p.txt", "a.h5"));
  EXPECT_NO_THROW(parse("p.jsonl", "a.hdf5"));
  EXPECT_NO_THROW(parse("p.jsonl", "a.jsonl"));
  EXPECT_THROW(parse("p.txt", "a.json"), UserError);
  EXPECT_THROW(parse("p.csv", "a.h5"), UserError);
}

TEST(RunConfig, VariablesThatNameNoFlagAreRemarked) {
  const Settings settings = settings_of({}, {"MILLRACE_MAX_SEQS=1", "HOME=/", "MILLRACE_SEED=4"});
  EXPECT_THAT(settings.remarks, ElementsAre("MILLRACE_MAX_SEQS is set but names no flag"));
}

TEST(RunConfig, HelpNamesEveryFlagWithItsDefaultWithinItsWidth) {
  RunConfig config;
  const std::vector<Flag> flags = run_flags(config);
  const std::string text = help_text(flags, "usage\n");
  for (const Flag& flag : flags) {
    EXPECT_THAT(text, HasSubstr("--" + flag.name));
    EXPECT_FALSE(flag.help.empty()) << flag.name;
  }
  EXPECT_THAT(text, HasSubstr("(default: 0.92)"));
  EXPECT_THAT(text, HasSubstr("--tensor-parallel-size, -tp N"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100U) << line;
  }
}

TEST(RunConfig, TheReadmeShowsTheHelpAsItIs) {
  std::ifstream file(std::string(MILLRACE_TEST_DATA) + "/../../README.md");
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  RunConfig config;
  std::istringstream lines(help_text(run_flags(config), ""));
  std::string block;
  for (std::string line; std::getline(lines, line);) {
    block += line.empty() ? "\n" : "    " + line + "\n";
  }
  EXPECT_THAT(readme, HasSubstr(block.substr(1)))
      << "README.md, Flags: paste what millrace --help prints";
}

TEST(RunConfig, DtypesHaveTheNamesOfVllm) {
  EXPECT_EQ(config_of({"--dtype", "auto"}).model.dtype, std::nullopt);
  EXPECT_EQ(config_of({"--dtype", "half"}).model.dtype, DType::f16);
  EXPECT_EQ(config_of({"--dtype", "float"}).model.dtype, DType::f32);
  EXPECT_EQ(config_of({"--dtype", "bfloat16"}).model.dtype, DType::bf16);
  EXPECT_EQ(config_of({"--kv-cache-dtype", "fp8"}).model.kv_cache_dtype, DType::fp8_e4m3);
  EXPECT_EQ(error_of({"--dtype", "fp8"}),
            "--dtype: 'fp8' is not one of auto, float32, bfloat16, float16, float, half");
}

TEST(RunConfig, FlagsAreTakenByNameAndOnlyThoseThereAre) {
  GridConfig config;
  const auto names = [](const std::vector<Flag>& flags) {
    Strings all;
    for (const Flag& flag : flags) all.push_back(flag.name);
    return all;
  };
  EXPECT_THAT(
      names(flags_named(grid_flags(config), {"pipeline-partition", "tensor-parallel-size"})),
      ElementsAre("tensor-parallel-size", "pipeline-partition"));
  EXPECT_THROW(flags_named(grid_flags(config), {"expert-parallel-size"}), std::logic_error);
}

TEST(RunConfig, HelpSpeaksOfVariablesOnlyWhereTheyCount) {
  GridConfig config;
  const std::vector<Flag> flags = grid_flags(config);
  EXPECT_THAT(help_text(flags, ""), HasSubstr("MILLRACE_MAX_NUM_SEQS"));
  EXPECT_THAT(help_text(flags, "", false), Not(HasSubstr("MILLRACE_")));
}

TEST(RunConfig, HelpAndVersionAreSeenBeforeAnythingIsRequired) {
  RunConfig names;
  const auto flags = run_flags(names);
  EXPECT_TRUE(read_settings(flags, Strings{"-h"}, {}).wants_help);
  EXPECT_TRUE(read_settings(flags, Strings{"--version"}, {}).wants_version);
  EXPECT_FALSE(read_settings(flags, kRequired, {}).wants_help);
}

}  // namespace
}  // namespace millrace
