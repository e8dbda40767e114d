#include "core/model/model_folder.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <vector>

#include "core/model/config.hpp"
#include "core/model/gguf_model.hpp"
#include "core/model/registry.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> gguf_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  if (error) throw UserError("{}: {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

ModelFiles files_in(const fs::path& folder) {
  std::error_code error;
  if (fs::is_regular_file(folder / "config.json", error)) return {folder, {}};
  const std::vector<fs::path> files = gguf_files(folder);
  if (files.size() == 1) return {folder, files.front()};
  if (files.empty()) {
    throw UserError("{}: holds neither a config.json nor a .gguf file", folder.string());
  }
  throw UserError("{}: holds {} .gguf files, name one of them", folder.string(), files.size());
}

std::optional<std::string> environment(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// As huggingface_hub finds its cache.
fs::path cache_folder() {
  if (const auto hub = environment("HF_HUB_CACHE")) return *hub;
  if (const auto hub = environment("HUGGINGFACE_HUB_CACHE")) return *hub;
  if (const auto home = environment("HF_HOME")) return fs::path(*home) / "hub";
  if (const auto cache = environment("XDG_CACHE_HOME")) {
    return fs::path(*cache) / "huggingface" / "hub";
  }
  return fs::path(environment("HOME").value_or("/")) / ".cache" / "huggingface" / "hub";
}

bool is_repository_name(const std::string& model) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '/';
  };
  const auto slash = model.find('/');
  return std::count(model.begin(), model.end(), '/') <= 1 && slash != 0 &&
         slash + 1 != model.size() && model.find("..") == std::string::npos &&
         !model.starts_with('.') && std::all_of(model.begin(), model.end(), is_allowed);
}

// models--org--name/snapshots/<commit of refs/main>
ModelFiles find_in_cache(const std::string& model) {
  const fs::path cache = cache_folder();
  std::string folder = "models--" + model;
  if (const auto slash = folder.find('/'); slash != std::string::npos) {
    folder.replace(slash, 1, "--");
  }
  const fs::path repository = cache / folder;
  std::error_code error;
  if (!fs::is_directory(repository, error)) {
    throw UserError(
        "--model {}: there is no such file or folder, and the Hugging Face cache has no {} "
        "(HF_HUB_CACHE or HF_HOME/hub say where; nothing is downloaded)",
        model, repository.string());
  }
  const fs::path ref = repository / "refs" / "main";
  std::string commit;
  std::ifstream(ref) >> commit;
  if (commit.empty() || commit.find('/') != std::string::npos || commit.starts_with('.')) {
    throw UserError("--model {}: {} names no snapshot", model, ref.string());
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::is_directory(snapshot, error)) {
    throw UserError("--model {}: {} names the snapshot {}, which is not there", model, ref.string(),
                    printable(snapshot.string()));
  }
  return files_in(snapshot);
}

void read_generation_config(const fs::path& folder, ModelSpec& spec) {
  const fs::path path = folder / "generation_config.json";
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return;
  const Config config = Config::read(path);
  if (config.has("eos_token_id")) spec.eos_token_ids = config.token_ids("eos_token_id");
  const std::vector<std::int32_t> bos = config.token_ids("bos_token_id");
  if (!bos.empty()) spec.bos_token_id = bos.front();
}

}  // namespace

ModelFiles find_model(const std::string& model) {
  if (model.empty()) throw UserError("--model is empty");
  const fs::path path(model);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::status_known(status)) throw UserError("--model {}: {}", model, error.message());
  if (fs::is_directory(status)) return files_in(path);
  if (fs::is_regular_file(status)) {
    if (path.extension() == ".gguf") return {path.parent_path(), path};
    throw UserError("--model {}: a folder or a .gguf file is needed", model);
  }
  if (path.extension() == ".gguf" || !is_repository_name(model)) {
    throw UserError("--model {}: there is no such file or folder", model);
  }
  return find_in_cache(model);
}

ModelDescription describe_model(const ModelFiles& files) {
  if (files.is_gguf()) return describe_gguf(read_gguf_header(files.gguf));
  ModelDescription model = describe_config(Config::read(files.folder / "config.json"));
  read_generation_config(files.folder, model.spec);
  return model;
}

}  // namespace millrace
