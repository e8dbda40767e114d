#include "core/engine/sample_download.hpp"

#include "kernels/base/buffer.hpp"
#include "kernels/sampling.hpp"
#include "kernels/sampling_math.hpp"

namespace millrace {

namespace {

// Bytes of a row of each part, by Part.
constexpr std::array<std::size_t, 6> row_bytes = {
    sizeof(std::int32_t), sizeof(float),        sizeof(std::int64_t),
    sizeof(float),        sizeof(std::int64_t), max_logprobs * sizeof(std::int64_t)};

std::size_t bytes_of(std::int64_t rows) {
  std::size_t bytes = 0;
  for (const std::size_t b : row_bytes) bytes += b * static_cast<std::size_t>(rows) + 8;
  return bytes;
}

}  // namespace

SampleDownload::SampleDownload(std::int64_t max_rows, Device device)
    : memory_(bytes_of(max_rows), device) {
  std::size_t offset = 0;
  for (std::size_t i = 0; i < row_bytes.size(); ++i) {
    offsets_[i] = offset;
    offset += (row_bytes[i] * static_cast<std::size_t>(max_rows) + 7) / 8 * 8;
  }
}

void SampleDownload::begin(std::int32_t logprobs, std::span<const Sequence* const> sequences) {
  logprobs_ = logprobs;
  sequences_.assign(sequences.begin(), sequences.end());
}

void SampleDownload::fetch(Part part, const TensorView& from, Stream stream) {
  copy_bytes(static_cast<std::byte*>(memory_.data()) + offsets_[static_cast<std::size_t>(part)],
             Device::cpu(), from.data(), from.device(), from.bytes(), stream);
}

template <typename T>
const T* SampleDownload::part(Part part) const {
  return reinterpret_cast<const T*>(static_cast<const std::byte*>(memory_.data()) +
                                    offsets_[static_cast<std::size_t>(part)]);
}

void SampleDownload::append_to(StepResult& result) const {
  const std::size_t before = result.tokens.size();
  const auto* tokens = part<std::int32_t>(Part::tokens);
  result.tokens.insert(result.tokens.end(), tokens, tokens + sequences_.size());
  if (logprobs_ >= 0) {
    result.logprobs.resize(before);  // rows before these asked for none
    for (std::size_t row = 0; row < sequences_.size(); ++row) {
      result.logprobs.push_back(logprobs_of(row));
    }
  } else if (!result.logprobs.empty()) {
    result.logprobs.resize(result.tokens.size());
  }
}

TokenLogprobs SampleDownload::logprobs_of(std::size_t row) const {
  TokenLogprobs logprobs;
  const std::int32_t token = part<std::int32_t>(Part::tokens)[row];
  const std::int32_t wanted = sequences_[row]->request->sampling.logprobs;
  if (wanted < 0 || token < 0) return logprobs;
  const float maximum = part<float>(Part::maxima)[row];
  const std::int64_t mass = part<std::int64_t>(Part::masses)[row];
  logprobs.token = token;
  logprobs.logprob = log_probability(part<float>(Part::picked)[row], maximum, mass);
  logprobs.rank = static_cast<std::int32_t>(part<std::int64_t>(Part::ranks)[row]);
  const auto* top = part<std::int64_t>(Part::top) + row * static_cast<std::size_t>(logprobs_);
  for (std::int32_t i = 0; i < wanted; ++i) {
    if (top[i] == no_candidate) break;  // the vocabulary is smaller
    logprobs.top.emplace_back(candidate_token(top[i]),
                              log_probability(candidate_value(top[i]), maximum, mass));
  }
  return logprobs;
}

}  // namespace millrace
