#include "core/engine/step_wire.hpp"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace millrace {

namespace {

constexpr std::uint32_t input_version = 0x49010001;   // "I", layout 1
constexpr std::uint32_t result_version = 0x52010001;  // "R", layout 1

class Writer {
 public:
  explicit Writer(std::uint32_t version) { value(version); }

  template <typename T>
  void value(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(&value, sizeof(T));
  }
  template <typename A, typename B>
  void value(const std::pair<A, B>& pair) {
    value(pair.first);
    value(pair.second);
  }
  template <typename T>
  void value(const std::optional<T>& optional) {
    value(optional.has_value());
    value(optional.value_or(T{}));
  }
  template <typename T>
  void value(const std::vector<T>& list) {
    value(static_cast<std::uint64_t>(list.size()));
    if constexpr (std::is_trivially_copyable_v<T>) {
      append(list.data(), list.size() * sizeof(T));
    } else {
      for (const T& element : list) value(element);
    }
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void append(const void* data, std::size_t size) {
    if (size == 0) return;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + size);
    std::memcpy(bytes_.data() + at, data, size);
  }
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::uint32_t version) : bytes_(bytes) {
    std::uint32_t found = 0;
    value(found);
    if (found != version) {
      throw std::runtime_error(
          fmt::format("step message of layout {:#x}, but this rank knows {:#x}: do all ranks run "
                      "the same millrace?",
                      found, version));
    }
  }

  template <typename T>
  void value(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    take(&value, sizeof(T));
  }
  template <typename A, typename B>
  void value(std::pair<A, B>& pair) {
    value(pair.first);
    value(pair.second);
  }
  template <typename T>
  void value(std::optional<T>& optional) {
    bool present = false;
    value(present);
    T content{};
    value(content);
    if (present) optional = content;
  }
  template <typename T>
  void value(std::vector<T>& list) {
    std::uint64_t count = 0;
    value(count);
    if (count > bytes_.size()) throw_short();  // no element is smaller than a byte
    list.resize(static_cast<std::size_t>(count));
    if constexpr (std::is_trivially_copyable_v<T>) {
      take(list.data(), list.size() * sizeof(T));
    } else {
      for (T& element : list) value(element);
    }
  }

 private:
  [[noreturn]] static void throw_short() {
    throw std::runtime_error("step message ends before its last field");
  }
  void take(void* to, std::size_t size) {
    if (size > bytes_.size()) throw_short();
    if (size > 0) std::memcpy(to, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
  }
  std::span<const std::byte> bytes_;
};

// The settings that schedulers and samplers read, in one order for both directions.
template <typename Archive, typename Params>
void sampling_fields(Archive& archive, Params& p) {
  archive.value(p.temperature);
  archive.value(p.top_p);
  archive.value(p.min_p);
  archive.value(p.top_k);
  archive.value(p.repetition_penalty);
  archive.value(p.presence_penalty);
  archive.value(p.frequency_penalty);
  archive.value(p.logit_bias);
  archive.value(p.seed);
  archive.value(p.max_tokens);
  archive.value(p.min_tokens);
  archive.value(p.stop_token_ids);
  archive.value(p.ignore_eos);
  archive.value(p.logprobs);
  archive.value(p.n);
}

template <typename Archive, typename Logprobs>
void logprobs_fields(Archive& archive, Logprobs& l) {
  archive.value(l.token);
  archive.value(l.logprob);
  archive.value(l.rank);
  archive.value(l.top);
}

}  // namespace

std::vector<std::byte> encode(const StepInput& input) {
  Writer writer(input_version);
  writer.value(input.step);
  writer.value(input.drain);
  writer.value(input.endings);
  writer.value(static_cast<std::uint64_t>(input.admissions.size()));
  for (const auto& request : input.admissions) {
    writer.value(request->key.offset);
    writer.value(request->prompt_tokens);
    sampling_fields(writer, request->sampling);
  }
  return writer.take();
}

StepInput decode_step_input(std::span<const std::byte> bytes) {
  Reader reader(bytes, input_version);
  StepInput input;
  reader.value(input.step);
  reader.value(input.drain);
  reader.value(input.endings);
  std::uint64_t admissions = 0;
  reader.value(admissions);
  for (; admissions > 0; --admissions) {
    auto request = std::make_shared<Request>();
    reader.value(request->key.offset);
    reader.value(request->prompt_tokens);
    sampling_fields(reader, request->sampling);
    input.admissions.push_back(std::move(request));
  }
  return input;
}

std::vector<std::byte> encode(const StepResult& result, bool with_logprobs) {
  Writer writer(result_version);
  writer.value(result.step);
  writer.value(result.tokens);
  const std::size_t count = with_logprobs ? result.logprobs.size() : 0;
  writer.value(static_cast<std::uint64_t>(count));
  for (std::size_t i = 0; i < count; ++i) logprobs_fields(writer, result.logprobs[i]);
  return writer.take();
}

StepResult decode_step_result(std::span<const std::byte> bytes) {
  Reader reader(bytes, result_version);
  StepResult result;
  reader.value(result.step);
  reader.value(result.tokens);
  std::uint64_t count = 0;
  reader.value(count);
  for (; count > 0; --count) logprobs_fields(reader, result.logprobs.emplace_back());
  return result;
}

}  // namespace millrace
