// Results and report as HDF5 (layout: core/io/README.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "core/io/results.hpp"

namespace millrace {

enum class Hdf5Contents : std::uint8_t {
  report,                // beside JSON Lines: everything but texts, tokens and logprobs
  results,               // all
  results_with_prompts,  // all, and the prompts' token ids
};

class Hdf5ResultWriter : public ResultWriter {
 public:
  Hdf5ResultWriter(const std::filesystem::path& output, bool overwrite, Hdf5Contents contents,
                   int mode = 0600);
  ~Hdf5ResultWriter() override;

  void add(std::int64_t index, std::int32_t run, const FinishedRequest& request) override;
  void finish(const Report& report) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
