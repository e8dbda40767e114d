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

std::optional<AgreedConfig> agree_on_config(const Comm& world,
                                            std::span<const std::string> arguments) {
  AgreedConfig agreed;
  Bytes bytes;
  agree(world, [&] {
    if (world.rank() != 0) {
      return;
    }
    RunConfig names;
    const std::vector<Flag> flags = run_flags(names);
    Settings settings = read_settings(flags, arguments, process_environment());
    if (settings.wants_help) {
      fmt::print("{}", help_text(flags, kUsage));
    } else if (settings.wants_version) {
      fmt::print("millrace {}\n", version());
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
  std::vector<Setting> settings;
  for (const auto& row : message[1]) {
    settings.push_back({row[0], row[1], static_cast<SettingSource>(row[2].get<int>())});
  }
  agreed.run = make_run_config(settings);
  return agreed;
}

}  // namespace millrace
