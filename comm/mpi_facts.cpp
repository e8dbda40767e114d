#include "comm/mpi_facts.hpp"

#include <mpi.h>

#include <array>
#include <cstdlib>
#include <limits>
#include <string_view>

namespace millrace {
namespace {

// "btl_tcp" for the variable "btl_tcp_if_include".
std::set<std::string> open_components() {
  std::set<std::string> components;
  int provided = 0;
  if (MPI_T_init_thread(MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS) return components;
  int count = 0;
  MPI_T_cvar_get_num(&count);
  for (int i = 0; i < count; ++i) {
    std::array<char, 256> name{};
    int length = name.size();
    int verbosity = 0;
    int binding = 0;
    int scope = 0;
    MPI_Datatype type = MPI_DATATYPE_NULL;
    if (MPI_T_cvar_get_info(i, name.data(), &length, &verbosity, &type, nullptr, nullptr, nullptr,
                            &binding, &scope) != MPI_SUCCESS) {
      continue;  // of a component that was closed
    }
    const std::string text = name.data();
    for (const std::string_view kind : {"pml_", "mtl_", "btl_"}) {
      if (text.starts_with(kind)) components.insert(text.substr(0, text.find('_', kind.size())));
    }
  }
  MPI_T_finalize();
  return components;
}

}  // namespace

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string_view all(text.data());
  return std::string(all.substr(0, std::min<std::size_t>(all.find_first_of(",\n"), 80)));
}

std::string way_between_hosts(const std::set<std::string>& components) {
  if (components.contains("pml_ucx")) return "ucx";
  // cm hands matching to one of the mtl; ob1, which does it itself, leaves them open but unused.
  const std::string_view kind = components.contains("pml_cm") ? "mtl_" : "btl_";
  static const std::set<std::string> within_a_host = {"btl_base",   "btl_self",  "btl_sm",
                                                      "btl_smcuda", "btl_vader", "mtl_base"};
  std::string way;
  for (const std::string& component : components) {
    if (!component.starts_with(kind) || within_a_host.contains(component)) continue;
    // With several, ob1 takes the one of the lowest latency, which is not tcp.
    if (way.empty() || way == "tcp") way = component.substr(kind.size());
  }
  return way;
}

std::int64_t lost_host_seconds() {
  if (std::getenv("OMPI_MCA_orte_hnp_uri") == nullptr) return 0;  // set by mpirun for its ranks
  const auto setting = [](const char* name, std::int64_t initial) {
    const char* text = std::getenv(name);
    return text == nullptr ? initial : std::strtoll(text, nullptr, 10);
  };
  const std::int64_t idle = setting("OMPI_MCA_oob_tcp_keepalive_time", 300);
  const std::int64_t interval = setting("OMPI_MCA_oob_tcp_keepalive_intvl", 20);
  const std::int64_t probes = setting("OMPI_MCA_oob_tcp_keepalive_probes", 9);
  return idle <= 0 ? std::numeric_limits<std::int64_t>::max() : idle + interval * probes;
}

std::string mpi_way_between_hosts() { return way_between_hosts(open_components()); }

}  // namespace millrace
