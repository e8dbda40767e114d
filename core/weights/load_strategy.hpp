// How ranks come to the weights that several of them hold: each reads the file system for itself,
// or one reads and gives them to the others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace millrace {

enum class LoadStrategy : std::uint8_t { automatic, read, broadcast };

// What a file lies on, as far as the choice cares.
struct FileSystem {
  std::string name;            // "nfs", "lustre", "ext4"; a number in hex when it has none here
  bool is_on_network = false;  // hosts that read the same file compete for the same server
};

// Of an existing file or folder; throws UserError naming it when the system does not tell.
FileSystem file_system_of(const std::filesystem::path& path);

// What is known before loading, alike on all ranks.
struct LoadQuestion {
  LoadStrategy asked = LoadStrategy::automatic;
  bool is_made_up = false;   // --load-format dummy
  bool has_sharers = false;  // some weight is held by several ranks
  int sharing_hosts = 1;     // hosts that ranks holding the same weights are on, at most
  FileSystem file_system;
};

struct LoadChoice {
  LoadStrategy strategy = LoadStrategy::read;  // never automatic
  std::string explanation;                     // "broadcast: 4 hosts share a lustre file system"
};

// What was asked for; else broadcast where ranks of several hosts need the same bytes of a network
// file system. Ranks of one host have its page cache in common, and a disk of its own serves every
// host at once.
LoadChoice choose_load_strategy(const LoadQuestion& question);

}  // namespace millrace
