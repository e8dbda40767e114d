#include "core/io/svg_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/text/unicode.hpp"

namespace millrace {
namespace {

// Sizes in SVG units; the page scales the whole to its width.
constexpr double width = 560;
constexpr double height = 230;
constexpr double left = 46;
constexpr double right = 12;
constexpr double top = 14;
constexpr double bottom = 40;
constexpr double plot_width = width - left - right;
constexpr double plot_height = height - top - bottom;

template <typename... Args>
void add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

struct Scale {
  double x_maximum;
  double y_maximum;
  double x(double value) const { return left + plot_width * value / x_maximum; }
  double y(double value) const { return top + plot_height * (1 - value / y_maximum); }
};

// The frame: grid lines, marks, labels.
void add_axes(std::string& svg, const PlotAxes& axes, const Scale& scale) {
  add(svg, "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} over {}\">", width, height,
      html_text(axes.y_label), html_text(axes.x_label));
  for (const double mark : axis_marks(scale.y_maximum, 4)) {
    const double y = scale.y(mark);
    add(svg, "<line class=\"grid\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>", left,
        y, width - right, y);
    add(svg, "<text class=\"mark\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
        left - 7, y + 4, short_number(mark));
  }
  for (const double mark : axis_marks(scale.x_maximum, 6)) {
    add(svg, "<text class=\"mark\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>",
        scale.x(mark), height - bottom + 17, short_number(mark));
  }
  add(svg, "<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
      width - right, height - 5, html_text(axes.x_label));
}

// At most two points for each column of the picture: its lowest and its highest, in their order.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, double x_maximum) {
  constexpr int columns = 400;
  if (points.size() <= 2 * columns) {
    return points;
  }
  std::vector<PlotPoint> kept;
  for (std::size_t begin = 0; begin < points.size();) {
    const int column = static_cast<int>(points[begin].x / x_maximum * columns);
    std::size_t end = begin;
    std::size_t lowest = begin;
    std::size_t highest = begin;
    for (; end < points.size() && static_cast<int>(points[end].x / x_maximum * columns) == column;
         ++end) {
      lowest = points[end].y < points[lowest].y ? end : lowest;
      highest = points[end].y > points[highest].y ? end : highest;
    }
    kept.push_back(points[std::min(lowest, highest)]);
    if (lowest != highest) {
      kept.push_back(points[std::max(lowest, highest)]);
    }
    begin = end;
  }
  return kept;
}

std::string legend(const std::vector<PlotSeries>& series) {
  std::string html;
  if (series.size() > 1) {
    html += "<div class=\"legend\">";
    for (std::size_t i = 0; i < series.size(); ++i) {
      add(html, "<span><i class=\"s{}\"></i>{}</span>", i % 6, html_text(series[i].name));
    }
    html += "</div>";
  }
  return html;
}

}  // namespace

std::string line_plot(const PlotAxes& axes, const std::vector<PlotSeries>& series) {
  Scale scale{1e-9, std::max(axes.y_maximum, 1e-9)};
  for (const PlotSeries& one : series) {
    for (const PlotPoint& point : one.points) {
      scale.x_maximum = std::max(scale.x_maximum, point.x);
      if (axes.y_maximum == 0) {
        scale.y_maximum = std::max(scale.y_maximum, point.y * 1.05);
      }
    }
  }
  std::string svg = legend(series);
  add_axes(svg, axes, scale);
  for (std::size_t i = 0; i < series.size(); ++i) {
    add(svg, "<polyline class=\"curve s{}\" points=\"", i % 6);
    for (const PlotPoint& point : thinned(series[i].points, scale.x_maximum)) {
      add(svg, "{:.1f},{:.1f} ", scale.x(point.x), scale.y(point.y));
    }
    svg += "\"/>";
  }
  return svg + "</svg>";
}

std::string histogram(const PlotAxes& axes, const Distribution& values, bool whole_numbers) {
  constexpr int most_bars = 40;
  // The longest tail is cut at the 99.9th percentile, or a single giant would squeeze all others.
  const double least = whole_numbers ? 1 : 1e-6;
  const double largest = std::max(values.quantile(0.999), least);
  const double exact = largest * 1.001 / most_bars;
  const double bar = whole_numbers ? std::max(std::ceil(exact), 1.0) : exact;
  const int bars = static_cast<int>(largest / bar) + 1;
  std::vector<double> counts;
  for (int i = 0; i < bars; ++i) {
    counts.push_back(values.count_between(i * bar, (i + 1) * bar));
  }
  const Scale scale{bar * bars, std::max(1.0, 1.05 * *std::ranges::max_element(counts))};
  std::string svg;
  add_axes(svg, axes, scale);
  for (int i = 0; i < bars; ++i) {
    const double count = counts[static_cast<std::size_t>(i)];
    const double x = scale.x(i * bar);
    add(svg,
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\">"
        "<title>{:.4g} to {:.4g}: {:.0f}</title></rect>",
        x + 0.5, scale.y(count), std::max(0.5, scale.x((i + 1) * bar) - x - 1),
        scale.y(0) - scale.y(count), i * bar, (i + 1) * bar - (whole_numbers ? 1 : 0), count);
  }
  return svg + "</svg>";
}

std::vector<double> axis_marks(double maximum, int count) {
  const double rough = maximum / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> marks;
  for (int i = 0; i * step <= maximum * 1.0001; ++i) {
    marks.push_back(i * step);
  }
  return marks;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  for (const auto& [unit, suffix] :
       {std::pair{1e9, "G"}, std::pair{1e6, "M"}, std::pair{1e3, "k"}}) {
    if (size >= unit) {
      return fmt::format("{:.3g}{}", value / unit, suffix);
    }
  }
  return fmt::format("{:.3g}", value);
}

std::string html_text(std::string_view text) {
  std::string repaired;
  text::append_replacing_invalid(repaired, text);
  std::string html;
  for (const char c : repaired) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

}  // namespace millrace
