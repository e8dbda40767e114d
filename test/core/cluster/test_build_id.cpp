// The identity of a program file, and files that have none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/cluster/build_id.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// The small program that the test's target is: linked with an id of 20 bytes.
std::string self_bytes() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string write(const std::string& name, const std::string& bytes) {
  const std::string path = fs::path(testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// The head of the note: sizes 4 and 20, type 3, "GNU".
const std::string note_head("\4\0\0\0\24\0\0\0\3\0\0\0GNU\0", 16);

TEST(BuildId, IsTheTwentyBytesOfTheProgramsNote) {
  const std::string bytes = self_bytes();
  const std::size_t note = bytes.find(note_head);
  ASSERT_NE(note, std::string::npos);
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x",
                  static_cast<unsigned char>(bytes[note + note_head.size() + i]));
    expected += digits;
  }
  EXPECT_EQ(build_id(), expected);
}

TEST(BuildId, ChangesWithTheNoteAndNotWithWhatIsAppended) {
  std::string bytes = self_bytes();
  EXPECT_EQ(build_id(write("appended", bytes + "debug sections")), build_id());
  bytes[bytes.find(note_head) + note_head.size()] ^= 1;
  EXPECT_NE(build_id(write("relinked", bytes)), build_id());
}

TEST(BuildId, OfWhatIsNoProgramIsEmpty) {
  EXPECT_EQ(build_id("/nonexistent"), "");
  EXPECT_EQ(build_id(write("script", "#!/bin/sh\n")), "");
  EXPECT_EQ(build_id(write("empty", "")), "");
}

TEST(BuildId, OfADamagedProgramIsEmptyAndNotACrash) {
  const std::string bytes = self_bytes();
  for (const std::size_t length : {17UL, 63UL, 64UL, 100UL, 700UL}) {
    EXPECT_EQ(build_id(write("cut", bytes.substr(0, length))), "") << length;
  }
  std::string huge = bytes;  // the note says that its content has 4 GiB
  const std::size_t note = huge.find(note_head);
  for (std::size_t i = 4; i < 8; ++i) huge[note + i] = '\xff';
  EXPECT_EQ(build_id(write("huge", huge)), "");
}

}  // namespace
}  // namespace millrace
