// A POSIX file as a value. Every failure is a UserError with the path and the system's reason
// ("cannot write answers.jsonl.partial: No space left on device").
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace millrace {

class PosixFile {
 public:
  // For reading.
  static PosixFile open(const std::filesystem::path& path);
  // For writing, mode 0600. An existing file is emptied, or with `exclusive` an error; a symbolic
  // link always is.
  static PosixFile create(const std::filesystem::path& path, bool exclusive = false);
  // For reading and writing, mode 0600; made where it is missing, left as it is where it is not.
  // Nothing when its folder is gone; a symbolic link is an error.
  static std::optional<PosixFile> open_to_lock(const std::filesystem::path& path);
  // For reading and writing, without a name in `folder`: gone when closed.
  static PosixFile temporary(const std::filesystem::path& folder);

  PosixFile() = default;
  ~PosixFile();
  PosixFile(PosixFile&& other) noexcept;
  PosixFile& operator=(PosixFile&& other) noexcept;
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  const std::filesystem::path& path() const { return path_; }

  std::int64_t size() const;
  // Bytes read from `position` on: fewer than asked for only at the end of the file.
  std::size_t read_at(std::int64_t position, std::span<std::byte> bytes) const;
  // Takes the file's lock until this object is gone, shared with others that are `shared` too;
  // false when another process is in the way. True as well on a file system without locks.
  bool try_lock(bool shared);
  // False when the file's path has come to mean another file, or none.
  bool has_its_name() const;
  // Writes `text` over what the file holds, as far as the disk takes it.
  void replace_contents(std::string_view text);
  // Appends all of `bytes` at the file's current end of writing.
  void write(std::span<const std::byte> bytes);
  // Returns when the contents and the size are on the disk.
  void sync();
  // Closes, reporting what only now failed (the destructor cannot).
  void close();

 private:
  PosixFile(int descriptor, std::filesystem::path path);

  int descriptor_ = -1;
  std::filesystem::path path_;
};

// Makes names created in or renamed into `folder` survive a crash of the machine. Does nothing on
// file systems that cannot.
void sync_folder(const std::filesystem::path& folder);

// Gives `from` the name `to`. When something has that name already: replaces it with `overwrite`,
// else throws a UserError and leaves both alone.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to,
                 bool overwrite);

// Throws a UserError when something has the name `path`.
void refuse_existing(const std::filesystem::path& path);

// The folder that `path` lies in; "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& path);

}  // namespace millrace
