// Who passes a message on to whom, so that no rank sends it more than a few times, however many
// want it. Places count from the source, which is 0; a place hears from one before it.
#pragma once

#include <vector>

namespace millrace {

constexpr int relay_fan_out = 4;

// Of a place other than 0.
constexpr int relay_from(int place) { return (place - 1) / relay_fan_out; }

// Of `places`, in ascending order.
inline std::vector<int> relay_to(int place, int places) {
  std::vector<int> next;
  for (int i = 1; i <= relay_fan_out; ++i) {
    const int to = place * relay_fan_out + i;
    if (to < places) next.push_back(to);
  }
  return next;
}

}  // namespace millrace
