#include "core/job/agreed_config.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/agree.hpp"
#include "core/version.hpp"

namespace millrace {
namespace {

constexpr std::string_view kUsage =
    "Runs a file of prompts through a large language model, on one rank or on many.\n\n"
    "  millrace --model MODEL --prompts FILE --output FILE [flags]\n"
    "  mpirun -n RANKS millrace --model MODEL --prompts FILE --output FILE [flags]\n";

Bytes encode(const Settings& settings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Setting& setting : settings.values) {
    rows.push_back({setting.flag, setting.value, static_cast<int>(setting.source)});
  }
  const bool stop = settings.wants_help || settings.wants_version;
  // CBOR keeps the bytes of file names, whatever their encoding.
  const std::vector<std::uint8_t> cbor = nlohmann::json::to_cbor({stop, rows});
  const auto bytes = std::as_bytes(std::span(cbor));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::optional<AgreedSettings> agree_on_settings(const Comm& world, std::span<const Flag> flags,
                                                std::string_view program, std::string_view usage,
                                                std::span<const std::string> arguments) {
  AgreedSettings agreed;
  Bytes bytes;
  agree(world, [&] {
    if (world.rank() != 0) {
      return;
    }
    Settings settings = read_settings(flags, arguments, process_environment());
    if (settings.wants_help) {
      fmt::print("{}", help_text(flags, usage));
    } else if (settings.wants_version) {
      fmt::print("{} {}\n", program, version());
    }
    std::fflush(stdout);
    bytes = encode(settings);
    agreed.remarks = std::move(settings.remarks);
  });
  world.broadcast_bytes(bytes, 0);
  const auto message = nlohmann::json::from_cbor(as_text(bytes));
  if (message[0].get<bool>()) {
    return std::nullopt;
  }
  for (const auto& row : message[1]) {
    agreed.values.push_back({row[0], row[1], static_cast<SettingSource>(row[2].get<int>())});
  }
  return agreed;
}

std::optional<AgreedConfig> agree_on_config(const Comm& world,
                                            std::span<const std::string> arguments) {
  RunConfig names;  // only the table's names and defaults are used
  auto agreed = agree_on_settings(world, run_flags(names), "millrace", kUsage, arguments);
  if (!agreed) {
    return std::nullopt;
  }
  return AgreedConfig{make_run_config(agreed->values), std::move(agreed->remarks)};
}

}  // namespace millrace
