#include "core/io/external_sort.hpp"

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

static_assert(sizeof(SpoolEntry) == 32 && std::is_trivially_copyable_v<SpoolEntry>);

bool before(const SpoolEntry& a, const SpoolEntry& b) {
  return std::tie(a.line_offset, a.file, a.position) < std::tie(b.line_offset, b.file, b.position);
}

}  // namespace

EntrySorter::EntrySorter(std::filesystem::path folder, std::int64_t memory_bytes)
    : folder_(std::move(folder)),
      run_entries_(
          std::max<std::size_t>(1, static_cast<std::size_t>(memory_bytes) / sizeof(SpoolEntry))) {}

void EntrySorter::add(const SpoolEntry& entry) {
  if (entries_.size() == run_entries_) {
    spill();
  }
  entries_.push_back(entry);
}

void EntrySorter::spill() {
  if (!file_.is_open()) {
    file_ = PosixFile::temporary(folder_);
  }
  std::ranges::sort(entries_, before);
  const auto bytes = std::as_bytes(std::span(entries_));
  file_.write(bytes);
  Run run;
  run.position = file_bytes_;
  file_bytes_ += static_cast<std::int64_t>(bytes.size());
  run.end = file_bytes_;
  runs_.push_back(std::move(run));
  entries_.clear();
}

void EntrySorter::start_merge() {
  merging_ = true;
  if (runs_.empty()) {
    std::ranges::sort(entries_, before);
    Run run;
    run.window = std::exchange(entries_, {});
    runs_.push_back(std::move(run));
  } else if (!entries_.empty()) {
    spill();
  }
  entries_ = {};
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    if (!runs_[i].window.empty() || fill(runs_[i])) {
      heap_.push_back(i);
    }
  }
  std::ranges::make_heap(heap_, [this](std::size_t a, std::size_t b) {
    return before(runs_[b].window[runs_[b].at], runs_[a].window[runs_[a].at]);
  });
}

bool EntrySorter::fill(Run& run) const {
  const auto left = static_cast<std::size_t>(run.end - run.position) / sizeof(SpoolEntry);
  // All windows together take about the memory that one run did.
  const std::size_t share = std::max<std::size_t>(run_entries_ / runs_.size(), 64);
  run.window.resize(std::min(left, share));
  run.at = 0;
  const auto bytes = std::as_writable_bytes(std::span(run.window));
  if (file_.read_at(run.position, bytes) < bytes.size()) {
    throw UserError("{} became shorter while it was read", file_.path().string());
  }
  run.position += static_cast<std::int64_t>(bytes.size());
  return !run.window.empty();
}

std::optional<SpoolEntry> EntrySorter::next() {
  if (!merging_) {
    start_merge();
  }
  if (heap_.empty()) {
    return std::nullopt;
  }
  const auto later = [this](std::size_t a, std::size_t b) {
    return before(runs_[b].window[runs_[b].at], runs_[a].window[runs_[a].at]);
  };
  std::ranges::pop_heap(heap_, later);
  Run& run = runs_[heap_.back()];
  const SpoolEntry entry = run.window[run.at++];
  if (run.at < run.window.size() || fill(run)) {
    std::ranges::push_heap(heap_, later);
  } else {
    heap_.pop_back();
  }
  return entry;
}

}  // namespace millrace
