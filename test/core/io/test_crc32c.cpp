#include "core/io/crc32c.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

namespace millrace {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Crc32c, MatchesThePublishedVectors) {
  // RFC 3720, appendix B.4, and the usual check value of the polynomial.
  EXPECT_EQ(crc32c({}), 0U);
  EXPECT_EQ(crc32c(bytes("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32)), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43U);
}

TEST(Crc32c, InstructionAndTableAgreeAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  std::vector<std::byte> data(300);
  for (std::byte& byte : data) {
    byte = static_cast<std::byte>(random());
  }
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t length = 0; length < 280; ++length) {
      const auto part = std::span(data).subspan(begin, length);
      ASSERT_EQ(crc32c(part), crc32c_plain(part)) << begin << " " << length;
    }
  }
}

TEST(Crc32c, ContinuesOverParts) {
  const auto whole = bytes("a frame in two writes");
  EXPECT_EQ(crc32c(whole.subspan(5), crc32c(whole.first(5))), crc32c(whole));
}

}  // namespace
}  // namespace millrace
