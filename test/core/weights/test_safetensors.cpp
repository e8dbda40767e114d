#include "core/weights/safetensors.hpp"

#include <gmock/gmock.h>

#include "kernels/base/error.hpp"
#include "samples.hpp"

namespace millrace {
namespace {

using test::bytes_of;
using test::read_values;
using test::safetensors;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr const char* one_matrix =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
const std::string six_floats = bytes_of(std::vector<float>{1, 2, 3, 4, 5, 6});

TEST(Safetensors, ReadsOnlyTheBytesOfARectangle) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors(one_matrix, six_floats));
  const auto checkpoint = open_checkpoint({folder.path(), {}});
  EXPECT_THAT(read_values(*checkpoint, "a", {0, 2}, {0, 3}), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(checkpoint->bytes_read(), 24);
  EXPECT_THAT(read_values(*checkpoint, "a", {0, 2}, {1, 2}), ElementsAre(2, 3, 5, 6));
  EXPECT_EQ(checkpoint->bytes_read(), 24 + 16);
  EXPECT_THAT(read_values(*checkpoint, "a", {1, 1}, {2, 1}), ElementsAre(6));
  EXPECT_EQ(checkpoint->bytes_read(), 24 + 16 + 4);
  EXPECT_EQ(checkpoint->find("b"), nullptr);
}

TEST(Safetensors, EveryStoredFloatIsReadAsEveryOther) {
  const TemporaryFolder folder;
  const std::vector<std::uint16_t> halves{0x3c00, 0xc000, 0x0001, 0x7c00};  // 1, -2, 2^-24, inf
  const std::vector<std::uint16_t> brains{0x3f80, 0xc000, 0x3380, 0x7f80};  // 1, -2, 2^-24, inf
  folder.write("model.safetensors",
               safetensors(R"({"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},
                               "b":{"dtype":"BF16","shape":[4],"data_offsets":[8,16]}})",
                           bytes_of(halves) + bytes_of(brains)));
  const auto checkpoint = open_checkpoint({folder.path(), {}});
  for (const char* name : {"h", "b"}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      EXPECT_THAT(read_values(*checkpoint, name, {0, 4}, {0, 1}, dtype),
                  ElementsAre(1.0F, -2.0F, 0x1p-24F, INFINITY))
          << name << " as " << millrace::name(dtype);
    }
  }
}

TEST(Safetensors, ShardsAreReadThroughTheIndex) {
  const TemporaryFolder folder;
  folder.write("one.safetensors", safetensors(one_matrix, six_floats));
  folder.write(
      "two.safetensors",
      safetensors(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", bytes_of(7.0F)));
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const auto checkpoint = open_checkpoint({folder.path(), {}});
  EXPECT_THAT(read_values(*checkpoint, "a", {1, 1}, {0, 3}), ElementsAre(4, 5, 6));
  EXPECT_THAT(read_values(*checkpoint, "b", {0, 1}, {0, 1}), ElementsAre(7));
}

TEST(Safetensors, AnIndexCannotLeaveTheFolderOrPromiseWhatIsNotThere) {
  const TemporaryFolder folder;
  folder.write("one.safetensors", safetensors(one_matrix, six_floats));
  const auto opening = [&](const std::string& index) {
    return [&folder, index] {
      folder.write("model.safetensors.index.json", index);
      open_checkpoint({folder.path(), {}});
    };
  };
  for (const char* shard :
       {R"("../one.safetensors")", R"("/etc/passwd")", R"("")", "7", R"("..")", R"("a\u0000b")"}) {
    EXPECT_THAT(opening(fmt::format(R"({{"weight_map":{{"a":{}}}}})", shard)),
                ThrowsMessage<UserError>(HasSubstr("no file of the model's folder")));
  }
  EXPECT_THAT(opening(R"({"weight_map":{"z":"one.safetensors"}})"),
              ThrowsMessage<UserError>(HasSubstr("holds 0 of the 1 tensors")));
  EXPECT_THAT(opening(R"({"weight_map":{"a":"gone.safetensors"}})"),
              ThrowsMessage<UserError>(HasSubstr("gone.safetensors: No such file")));
  EXPECT_THAT(opening("[]"), ThrowsMessage<UserError>(HasSubstr("no weight_map")));
}

struct BadFile {
  const char* header;
  const char* message;
};

TEST(Safetensors, ACorruptHeaderIsTheUsersErrorThatSaysWhat) {
  const BadFile bad[] = {
      {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,28]}})", "needs 192 bits"},
      {R"({"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}})", "truncated: tensor 'a'"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,24]}})",
       "impossible size 4"},
      {R"({"a":{"dtype":"F32","shape":[-2,3],"data_offsets":[0,24]}})", "impossible size -2"},
      {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[18446744073709551608,16]}})",
       "impossible data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}})", "data_offsets [24,0]"},
      {R"({"a":{"dtype":"F99","shape":[2,3],"data_offsets":[0,24]}})", "unknown dtype 'F99'"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,6],"data_offsets":[0,24]}})",
       "9 dimensions"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
           "b":{"dtype":"F32","shape":[3],"data_offsets":[8,20]}})",
       "share the bytes from 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
           "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "'a' appears twice"},
      {R"({"a":7})", "needs dtype"},
      {R"([1])", "not a JSON object"},
      {R"({"a")", "not a JSON object"},
      {R"({"a":{"dtype":"F32","shape":[[[[[[[[[1]]]]]]]]],"data_offsets":[0,24]}})", "nested"},
  };
  const TemporaryFolder folder;
  for (const BadFile& file : bad) {
    const auto path = folder.write("model.safetensors", safetensors(file.header, six_floats));
    EXPECT_THAT(
        [&] {
          open_checkpoint({folder.path(), {}});
        },
        ThrowsMessage<UserError>(AllOf(HasSubstr(path.string()), HasSubstr(file.message))));
  }
}

TEST(Safetensors, AHeaderLengthBeyondTheFileIsTheUsersError) {
  const TemporaryFolder folder;
  const auto opening = [&](const std::string& bytes) {
    return [&folder, bytes] {
      folder.write("model.safetensors", bytes);
      open_checkpoint({folder.path(), {}});
    };
  };
  EXPECT_THAT(opening("1234567"), ThrowsMessage<UserError>(HasSubstr("the file has 7 bytes")));
  EXPECT_THAT(opening(bytes_of(std::uint64_t{50}) + "{}"),
              ThrowsMessage<UserError>(HasSubstr("truncated: 50 bytes, the file has 10")));
  EXPECT_THAT(opening(bytes_of(~std::uint64_t{0}) + "{}"),
              ThrowsMessage<UserError>(HasSubstr("the limit is 100000000")));
}

TEST(Safetensors, UnsupportedElementsMatterOnlyWhenTheyAreWanted) {
  const TemporaryFolder folder;
  folder.write(
      "model.safetensors",
      safetensors(R"({"mask":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}})", "abcd"));
  const auto checkpoint = open_checkpoint({folder.path(), {}});
  EXPECT_THAT([&] { checkpoint->find("mask"); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("'mask'"), HasSubstr("BOOL"))));
}

TEST(Safetensors, AFileCutShortWhileItIsOpenIsAnError) {
  const TemporaryFolder folder;
  const auto path = folder.write("model.safetensors", safetensors(one_matrix, six_floats));
  const auto checkpoint = open_checkpoint({folder.path(), {}});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  EXPECT_THAT(
      [&] {
        read_values(*checkpoint, "a", {0, 2}, {0, 3});
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr(path.string()), HasSubstr("truncated"))));
}

TEST(Safetensors, AFolderWithNoneOrManyFilesSaysSo) {
  const TemporaryFolder folder;
  EXPECT_THAT(
      [&] {
        open_checkpoint({folder.path(), {}});
      },
      ThrowsMessage<UserError>(HasSubstr("0 .safetensors files")));
  folder.write("pytorch_model.bin", "");
  EXPECT_THAT(
      [&] {
        open_checkpoint({folder.path(), {}});
      },
      ThrowsMessage<UserError>(HasSubstr("convert it to safetensors")));
  folder.write("other.safetensors", safetensors(one_matrix, six_floats));
  EXPECT_NE(open_checkpoint({folder.path(), {}})->find("a"), nullptr);
}

}  // namespace
}  // namespace millrace
