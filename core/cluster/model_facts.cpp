#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"
#include "core/cluster/rank_facts.hpp"
#include "core/io/crc32c.hpp"
#include "core/io/report.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t end_bytes = 64 << 10;

std::string file_fact(const fs::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::int64_t>(file.tellg());
  const std::int64_t count = std::min(size, end_bytes);
  std::uint32_t sum = 0;
  for (const std::int64_t begin : {std::int64_t{0}, size - count}) {
    std::vector<char> bytes(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
    file.seekg(begin);
    if (!file.read(bytes.data(), count)) {
      throw UserError("--model: cannot read '{}' on host {}: {}", path.string(), host_name(),
                      std::strerror(errno));
    }
    sum = crc32c(std::as_bytes(std::span(bytes)), sum);
  }
  return fmt::format("{} bytes, checksum {:08x}", with_commas(size), sum);
}

// Which folder or file it is on this host. Ranks of one host may have other working folders, or
// each a container of its own.
std::string place_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw UserError("--model: cannot read '{}' on host {}: {}", path.string(), host_name(),
                    std::strerror(errno));
  }
  return fmt::format("{} {}", status.st_dev, status.st_ino);
}

// What the engine and the tokenizer read of a folder.
bool is_read(const fs::path& file) {
  static constexpr std::array<std::string_view, 4> endings = {".json", ".safetensors", ".jinja",
                                                              ".txt"};
  return std::ranges::find(endings, file.extension().string()) != endings.end();
}

}  // namespace

std::map<std::string, std::string> model_facts(const ModelFiles& files) {
  if (files.is_gguf()) return {{files.gguf.filename().string(), file_fact(files.gguf)}};
  std::map<std::string, std::string> facts;
  for (const auto& entry : fs::directory_iterator(files.folder)) {
    if (entry.is_regular_file() && is_read(entry.path())) {
      facts.emplace(entry.path().filename().string(), file_fact(entry.path()));
    }
  }
  return facts;
}

std::map<std::string, std::string> model_facts_of_host(const Comm& world, const Comm& node,
                                                       const std::string& model) {
  ModelFiles files;
  std::string place;
  agree(world, [&] {
    files = find_model(model);
    place = place_of(files.is_gguf() ? files.gguf : files.folder);
  });
  const std::vector<Bytes> places = node.all_gather_bytes(as_bytes(place));
  const auto reader =
      std::ranges::find_if(places, [&](const Bytes& of_rank) { return as_text(of_rank) == place; });
  const auto reading_rank = reader - places.begin();
  std::map<std::string, std::string> mine;
  agree(world, [&] {
    if (node.rank() == reading_rank) mine = model_facts(files);
  });
  const auto cbor = nlohmann::json::to_cbor(mine);
  const std::vector<Bytes> facts = node.all_gather_bytes(std::as_bytes(std::span(cbor)));
  return nlohmann::json::from_cbor(as_text(facts[static_cast<std::size_t>(reading_rank)]));
}

}  // namespace millrace
