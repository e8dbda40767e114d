#include "core/cluster/build_id.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <vector>

namespace millrace {
namespace {

// The file is not trusted: sizes that no linker writes end the search.
constexpr std::size_t most_program_headers = 1024;
constexpr std::size_t most_note_bytes = 1 << 20;

template <typename T>
bool read_at(std::ifstream& file, std::uint64_t offset, T* values, std::size_t count) {
  file.clear();
  file.seekg(static_cast<std::streamoff>(offset));
  return static_cast<bool>(
      file.read(reinterpret_cast<char*>(values), static_cast<std::streamsize>(count * sizeof(T))));
}

std::size_t padded(std::size_t bytes) { return (bytes + 3) / 4 * 4; }

// A note is its head, its owner's name and its content, each padded to four bytes.
std::string id_in_notes(const std::vector<unsigned char>& notes) {
  std::size_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr head{};
    std::memcpy(&head, notes.data() + at, sizeof(head));
    at += sizeof(head);
    const std::size_t name = padded(head.n_namesz);
    const std::size_t content = padded(head.n_descsz);
    if (name > notes.size() - at || content > notes.size() - at - name) return "";
    const bool is_gnu = head.n_namesz == 4 && std::memcmp(notes.data() + at, "GNU", 4) == 0;
    at += name;
    if (is_gnu && head.n_type == NT_GNU_BUILD_ID) {
      std::string id;
      for (std::size_t i = 0; i < head.n_descsz; ++i) id += fmt::format("{:02x}", notes[at + i]);
      return id;
    }
    at += content;
  }
  return "";
}

}  // namespace

std::string build_id(const std::filesystem::path& program) {
  std::ifstream file(program, std::ios::binary);
  Elf64_Ehdr head{};
  if (!read_at(file, 0, &head, 1) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
      head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_phentsize != sizeof(Elf64_Phdr) ||
      head.e_phnum > most_program_headers) {
    return "";
  }
  std::vector<Elf64_Phdr> segments(head.e_phnum);
  if (!read_at(file, head.e_phoff, segments.data(), segments.size())) return "";
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_NOTE || segment.p_filesz > most_note_bytes) continue;
    std::vector<unsigned char> notes(segment.p_filesz);
    if (!read_at(file, segment.p_offset, notes.data(), notes.size())) continue;
    if (std::string id = id_in_notes(notes); !id.empty()) return id;
  }
  return "";
}

}  // namespace millrace
