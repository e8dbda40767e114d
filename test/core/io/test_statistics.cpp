#include "core/io/statistics.hpp"

#include <gmock/gmock.h>

#include <cstdlib>

#include "core/io/report_html.hpp"
#include "core/io/report_program.hpp"
#include "core/io/results.hpp"
#include "core/io/svg_plot.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

TEST(Distribution, QuantilesAreRightToOnePercent) {
  Distribution values;
  for (int i = 1; i <= 100'000; ++i) {
    values.add(i * 0.001);
  }
  EXPECT_EQ(values.count(), 100'000);
  EXPECT_NEAR(values.mean(), 50.0005, 1e-6);
  for (const double share : {0.01, 0.1, 0.5, 0.9, 0.99}) {
    EXPECT_NEAR(values.quantile(share), 100 * share, 1.01 * share) << share;
  }
  EXPECT_NEAR(values.quantile(0), 0.001, 0.00001);
  EXPECT_EQ(values.maximum(), 100);
  EXPECT_NEAR(values.count_between(10, 20), 10'000, 100);
}

TEST(Distribution, HoldsZeroAndNothing) {
  Distribution values;
  EXPECT_EQ(values.quantile(0.5), 0);
  EXPECT_EQ(values.mean(), 0);
  values.add(0);
  values.add(0);
  values.add(7);
  EXPECT_EQ(values.quantile(0.5), 0);
  EXPECT_EQ(values.quantile(1), 7);
  EXPECT_EQ(values.count_between(0, 1), 2);
  EXPECT_EQ(values.count_between(7, 8), 1) << "small whole numbers are exact";
}

class JobReport : public testing::Test {
 protected:
  JobReport() {
    auto writer = open_results({path(), false, false});
    for (int i = 0; i < 100; ++i) {
      FinishedRequest result = sample_result(i);
      if (i % 10 == 9) {
        result.error = "the prompt has " + std::to_string(4000 + i) + " <tokens>";
      }
      writer->add(i, 0, result);
    }
    report_.config = {{"model", "a & b"}};
    report_.summary = {1, 10, 300, 500, 100, 20};
    for (int i = 0; i < 10; ++i) {
      TimelineRow row;
      row.seconds = i;
      row.running = 5;
      row.replica = i % 2;
      report_.timeline.push_back(row);
    }
    writer->finish(report_);
  }

  std::filesystem::path path() const { return folder_ / "a.h5"; }
  Statistics statistics() const { return gather_statistics(ResultReader(path()), "a.h5"); }

  TemporaryFolder folder_;
  Report report_;
};

TEST_F(JobReport, CountsAndGroupsErrorsByReason) {
  const Statistics all = statistics();
  EXPECT_EQ(all.requests, 100);
  EXPECT_EQ(all.errors, 20);
  ASSERT_EQ(all.error_groups.size(), 2U);
  EXPECT_EQ(all.error_groups[0].count, 10);
  EXPECT_THAT((std::vector{all.error_groups[0].first_index, all.error_groups[1].first_index}),
              testing::UnorderedElementsAre(4, 9));
  // 80 lines are answered; of 0..99 not ending in 4 or 9, those divisible by 3 twice.
  EXPECT_EQ(all.outputs, 80 + 27);
  EXPECT_EQ(all.finish_reasons[0], 80);
  EXPECT_EQ(all.finish_reasons[1], 27);
  EXPECT_EQ(all.latency_seconds.count(), 80);
  EXPECT_NEAR(all.latency_seconds.quantile(0.5), 2, 0.02);
  EXPECT_NEAR(all.first_token_seconds.quantile(0.5), 0.5, 0.005);
}

TEST_F(JobReport, TextSaysWhatTheFileHolds) {
  const std::string text = summary_text(report_, statistics());
  EXPECT_THAT(text, HasSubstr("model         a & b\n"));
  EXPECT_THAT(text,
              HasSubstr("50.0 output tokens/s, 80.0 tokens/s with prompts, 10.00 requests/s"));
  EXPECT_THAT(text, HasSubstr("requests      100, 20 with an error"));
  EXPECT_THAT(text, HasSubstr("completions   107: 80 by a stop, 27 by length"));
  EXPECT_THAT(text,
              HasSubstr("error         10 lines, first index 9: the prompt has 4009 <tokens>"));
}

TEST_F(JobReport, AFileFromElsewhereDoesNotSpeakToTheTerminal) {
  report_.config = {{"model", "a\x1b[2Jb\nrequests 7"}};
  report_.ranks = {{.rank = 0, .host = "h", .device = "cpu\r", .gpu_links = ""}};
  Statistics all = statistics();
  all.millrace_version = "1\x07";
  all.error_groups.front().message = "no\x1b]0;title";
  const std::string text = summary_text(report_, all);
  EXPECT_EQ(text.find_first_of("\x1b\x07\r"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("model         a\\x1B[2Jb\\x0Arequests 7\n"));
}

TEST_F(JobReport, PageStandsAloneAndEscapesWhatUsersWrote) {
  const std::string html = report_html(report_, statistics());
  EXPECT_THAT(html, HasSubstr("the prompt has 4009 &lt;tokens&gt;"));
  EXPECT_THAT(html, HasSubstr("a &amp; b"));
  EXPECT_THAT(html, Not(HasSubstr("<tokens>")));
  for (const char* foreign : {"http:", "https:", "<script", "src=", "@import", "nan", "inf,"}) {
    EXPECT_THAT(html, Not(HasSubstr(foreign)));
  }
  for (const char* title :
       {"KV cache in use", "Sequences", "Tokens per second", "Prompt lengths", "Output lengths"}) {
    EXPECT_THAT(html, HasSubstr(title));
  }
}

TEST_F(JobReport, PageOfAnEmptyJobIsWhole) {
  auto writer = open_results({folder_ / "empty.h5", false, false});
  writer->finish({});
  const ResultReader reader(folder_ / "empty.h5");
  const Statistics none = gather_statistics(reader, "empty.h5");
  EXPECT_THAT(report_html(reader.report(), none), testing::EndsWith("</html>\n"));
  EXPECT_THAT(summary_text(reader.report(), none), HasSubstr("requests      0"));
}

TEST_F(JobReport, ProgramWritesWhatItIsAskedForAndNothingTwice) {
  const std::string page = (folder_ / "a.html").string();
  const std::string lines = (folder_ / "a.jsonl").string();
  const std::vector<std::string> arguments = {path().string(), "--html", page, "--to-jsonl", lines};
  EXPECT_EQ(run_report(arguments), 0);
  EXPECT_THAT(read_file(page), testing::StartsWith("<!doctype html>"));
  EXPECT_EQ(std::ranges::count(read_file(lines), '\n'), 100);
  EXPECT_THAT([&] { run_report(arguments); },
              ThrowsMessage<UserError>(HasSubstr("a.html exists already")));
  // A slip of the hand does not cost the results.
  EXPECT_THAT(
      [&] {
        run_report(
            std::vector<std::string>{path().string(), "--html", path().string(), "--overwrite"});
      },
      ThrowsMessage<UserError>(HasSubstr("a page is named *.html")));
  // All that is asked for is looked at first.
  const std::string other = (folder_ / "b.html").string();
  EXPECT_THROW(
      run_report(std::vector<std::string>{path().string(), "--html", other, "--to-jsonl", lines}),
      UserError);
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_EQ(run_report(std::vector<std::string>{path().string()}), 0);
  const auto error_of = [](const std::vector<std::string>& question) -> std::string {
    try {
      run_report(question);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of({}), "the first argument names the result file; see --help");
  EXPECT_EQ(error_of({path().string(), "--journal", "o.h5"}),
            "FILE and --journal are two questions: ask one at a time");
  EXPECT_EQ(error_of({"--journal", "o.h5", "--html", page}),
            "--html is of a result FILE, and --journal has none");
  EXPECT_EQ(error_of({path().string(), "--prompts", "p.txt"}),
            "--prompts goes with --recover, not with FILE");
  EXPECT_THROW(run_report(std::vector<std::string>{"none.h5"}), UserError);
}

TEST(AxisMarks, AreRound) {
  EXPECT_THAT(axis_marks(100, 4), ElementsAre(0, 50, 100));
  EXPECT_THAT(axis_marks(8, 4), ElementsAre(0, 2, 4, 6, 8));
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(1500), "1.5k");
  EXPECT_EQ(short_number(20e6), "20M");
}

TEST(LinePlot, DrawsFewPointsAndLosesNoPeak) {
  PlotSeries series;
  for (int i = 0; i < 100'000; ++i) {
    series.points.push_back({static_cast<double>(i), i == 54'321 ? 1000.0 : 1.0});
  }
  const std::string svg = line_plot({"s", "n"}, {series});
  EXPECT_LT(svg.size(), 20'000U);
  EXPECT_THAT(svg, HasSubstr(",22.4 ")) << "the peak, at 1/1.05 of the height";
}

}  // namespace
}  // namespace millrace
