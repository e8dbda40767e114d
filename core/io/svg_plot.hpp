// Plots as inline SVG for the HTML report: lines over time and histograms. Colours come from the
// page's style sheet (classes s0, s1, ... for series), so that they follow its light and dark
// themes; nothing is loaded and nothing is run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/io/distribution.hpp"

namespace millrace {

struct PlotPoint {
  double x = 0;
  double y = 0;
};

struct PlotSeries {
  std::string name;  // in the legend; none when there is one series
  std::vector<PlotPoint> points;
};

struct PlotAxes {
  std::string x_label;
  std::string y_label;
  double y_maximum = 0;  // 0: from the points
};

// Curves of `series` over a common x axis that begins at 0. At most about 800 points of each are
// drawn: where there are more, the lowest and the highest of each column, so that no peak is lost.
std::string line_plot(const PlotAxes& axes, const std::vector<PlotSeries>& series);

// About 40 bars of equal width over the values' range; of whole width for whole numbers.
std::string histogram(const PlotAxes& axes, const Distribution& values, bool whole_numbers);

// Round numbers at which an axis from 0 to `maximum` has its marks: 1, 2 or 5 times a power of ten
// apart, about `count` of them.
std::vector<double> axis_marks(double maximum, int count);

// "1.5k", "20M", "0.25": short numbers for marks.
std::string short_number(double value);

// Text inside HTML: & < > " escaped.
std::string html_text(std::string_view text);

}  // namespace millrace
