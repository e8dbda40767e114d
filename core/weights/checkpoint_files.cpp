#include "core/weights/checkpoint_files.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/base/error.hpp"

namespace millrace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

CheckpointFiles::CheckpointFiles(fs::path folder, std::span<const std::byte> heads)
    : folder_(std::move(folder)), known_(std::in_place) {
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(heads.data());
  for (const Json& row : Json::from_cbor(bytes, bytes + heads.size())) {
    const Json::binary_t& head = row.at(2).get_binary();
    const auto* const begin = reinterpret_cast<const std::byte*>(head.data());
    known_->push_back({row.at(0), row.at(1), {begin, begin + head.size()}});
  }
}

bool CheckpointFiles::has(const std::string& name) const {
  std::error_code error;
  if (!known_) return fs::is_regular_file(folder_ / name, error);
  return std::ranges::find(*known_, name, &FileHead::name) != known_->end();
}

std::vector<std::string> CheckpointFiles::names(const std::string& ending) const {
  std::vector<std::string> found;
  const auto take = [&](const std::string& name) {
    if (name.ends_with(ending)) found.push_back(name);
  };
  if (known_) {
    for (const FileHead& file : *known_) take(file.name);
  } else {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_, error)) {
      take(entry.path().filename().string());
    }
  }
  std::ranges::sort(found);
  return found;
}

std::shared_ptr<CheckpointFile> CheckpointFiles::open(const std::string& name) {
  if (!known_) {
    opened_.push_back(std::make_shared<CheckpointFile>(folder_ / name));
    return opened_.back();
  }
  const auto known = std::ranges::find(*known_, name, &FileHead::name);
  if (known == known_->end()) {
    throw UserError("{}: rank 0 did not find it", (folder_ / name).string());
  }
  return std::make_shared<CheckpointFile>(folder_, *known);
}

std::vector<std::byte> CheckpointFiles::heads() const {
  Json rows = Json::array();
  for (const auto& file : opened_) {
    const FileHead head = file->head();
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(head.head.data());
    rows.push_back({head.name, head.bytes,
                    Json::binary(std::vector<std::uint8_t>(begin, begin + head.head.size()))});
  }
  const std::vector<std::uint8_t> cbor = Json::to_cbor(rows);
  const auto bytes = std::as_bytes(std::span(cbor));
  return {bytes.begin(), bytes.end()};
}

}  // namespace millrace
