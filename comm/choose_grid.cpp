#include "comm/choose_grid.hpp"

#include <algorithm>
#include <tuple>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

std::string given_axes(const GridQuestion& question) {
  std::string text;
  const auto add = [&text](const char* axis, const std::optional<int>& value) {
    if (value) text += fmt::format("{}{} {}", text.empty() ? "" : " x ", axis, *value);
  };
  add("data", question.data);
  add("pipeline", question.pipeline);
  add("tensor", question.tensor);
  return text.empty() ? "any" : text;
}

void check_axis(const char* axis, const std::optional<int>& given, int most) {
  if (given > most) {
    throw UserError("{} {} is more than {}, the most that the model can be cut into", axis, *given,
                    most);
  }
}

bool agrees_with(const std::optional<int>& given, int value) { return !given || *given == value; }

// All grids of the world that have the given axes and that the model can take.
std::vector<GridShape> candidates(const GridQuestion& question) {
  std::vector<GridShape> shapes;
  for (int tensor = 1; tensor <= std::min(question.most_tensor, question.world_size); ++tensor) {
    const bool within_host = question.ranks_per_host % tensor == 0;
    if (!agrees_with(question.tensor, tensor) || (!within_host && !question.tensor)) continue;
    for (int pipeline = 1; pipeline <= std::min(question.most_pipeline, question.world_size);
         ++pipeline) {
      if (!agrees_with(question.pipeline, pipeline)) continue;
      if (question.world_size % (pipeline * tensor) != 0) continue;
      const int data = question.world_size / (pipeline * tensor);
      if (agrees_with(question.data, data)) shapes.push_back({data, pipeline, tensor});
    }
  }
  return shapes;
}

std::string explain(const GridQuestion& question, const GridShape& shape, bool fits) {
  const int ranks = shape.pipeline * shape.tensor;
  std::string why;
  if (question.tensor && question.pipeline) {
    why = "as given";
  } else if (!fits) {
    why = fmt::format("the model does not fit even {} rank{}", ranks, ranks == 1 ? "" : "s");
  } else if (question.tensor || question.pipeline || question.data) {
    why = fmt::format("{} as given; {} {} the model", given_axes(question), ranks,
                      ranks == 1 ? "rank holds" : "ranks hold");
  } else if (ranks == 1) {
    why = shape.data == 1 ? "the model fits one rank"
                          : "the model fits one rank, so each rank is a replica";
  } else {
    why = fmt::format("the model needs {} ranks", ranks);
    if (shape.tensor > 1) why += ", cut by tensors within a host";
    if (shape.pipeline > 1) {
      if (!question.fast_links_in_host) {
        why += ", in stages since the host has no fast links";
      } else {
        why += shape.tensor > 1 ? " and in stages beyond it" : ", in stages";
      }
    }
  }
  return to_string(shape) + ": " + why;
}

}  // namespace

GridChoice choose_grid(const GridQuestion& question) {
  const std::vector<GridShape> shapes = candidates(question);
  if (shapes.empty()) {
    check_axis("tensor", question.tensor, question.most_tensor);
    check_axis("pipeline", question.pipeline, question.most_pipeline);
    throw UserError(
        "no grid of {} rank{} ({} to a host) has {}; the model can be cut into tensor {} and "
        "pipeline {} at most",
        question.world_size, question.world_size == 1 ? "" : "s", question.ranks_per_host,
        given_axes(question), question.most_tensor, question.most_pipeline);
  }
  // Smallest key first: what fits, then the most replicas, then the axis that the links favour.
  // When nothing fits, the largest replica comes closest.
  const auto key = [&question](const GridShape& shape) {
    const bool fits = question.fits(shape.pipeline, shape.tensor);
    const int ranks = shape.pipeline * shape.tensor;
    const int favoured = question.fast_links_in_host ? -shape.tensor : shape.tensor;
    return std::tuple(!fits, fits ? ranks : -ranks, favoured);
  };
  const GridShape best =
      *std::min_element(shapes.begin(), shapes.end(),
                        [&key](const GridShape& a, const GridShape& b) { return key(a) < key(b); });
  const bool fits = question.fits(best.pipeline, best.tensor);
  return {best, explain(question, best, fits)};
}

}  // namespace millrace
