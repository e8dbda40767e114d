// Plans of products come back from their file as they were, or not at all.
#include "kernels/linear_plan_file.hpp"

#include <gmock/gmock.h>

#include <thread>

#include "kernels/base/error.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

namespace fs = std::filesystem;

const std::string signature = "plans 6 | NVIDIA H100 80GB HBM3 | driver 13000 | cublasLt 130100";
const std::vector<std::string> plans = {"1 4096 4096 1 1 0 0 1 0 1 0 0 0 0 0 0 0 0",
                                        "64 28672 4096 1 1 0 0 1 0 0 66 18446744073709551615 7"};

class PlanFile : public testing::Test {
 protected:
  std::vector<std::string> read() const { return read_plan_lines(path_, signature); }
  // What is read of a file that holds `text`.
  std::vector<std::string> read_of(const std::string& text) const {
    write_file(path_, text);
    return read();
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path() / "plans";
};

TEST_F(PlanFile, HoldsPlansForOneSignature) {
  EXPECT_THAT(read(), IsEmpty());
  write_plan_lines(path_, signature, plans);
  EXPECT_EQ(read(), plans);
  EXPECT_THAT(read_plan_lines(path_, "plans 6 | NVIDIA H200"), IsEmpty());
  write_plan_lines(path_, signature, {plans[1]});
  EXPECT_EQ(read(), std::vector<std::string>{plans[1]});
}

TEST_F(PlanFile, GivesNoPlanThatWasNotWritten) {
  write_plan_lines(path_, signature, plans);
  const std::string whole = read_file(path_);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    ASSERT_THAT(read_of(whole.substr(0, length)), Each(::testing::AnyOfArray(plans))) << length;
  }
  for (std::size_t at = signature.size() + 1; at < whole.size(); ++at) {
    for (const char other : {'0', '9', ' ', '\n', '\0'}) {
      std::string changed = whole;
      if (changed[at] == other) continue;
      changed[at] = other;
      const auto found = read_of(changed);
      ASSERT_THAT(found, Each(::testing::AnyOfArray(plans))) << at;
      ASSERT_LT(found.size(), plans.size()) << at;
    }
  }
}

TEST_F(PlanFile, ThatCannotBeWrittenIsAnErrorAndLeavesNothing) {
  EXPECT_THAT([&] { write_plan_lines(folder_.path() / "none" / "plans", signature, plans); },
              ThrowsMessage<UserError>(HasSubstr("none/plans: No such file")));
  fs::create_directory(path_);  // cannot be replaced by a file
  EXPECT_THAT([&] { write_plan_lines(path_, signature, plans); },
              ThrowsMessage<UserError>(HasSubstr("cannot write " + path_)));
  const fs::directory_iterator left(folder_.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 1);
}

// As ranks of hosts that share a folder do.
TEST_F(PlanFile, IsWholeWhoeverWritesIt) {
  const auto write = [&](std::size_t plan) {
    for (int i = 0; i < 200; ++i) {
      write_plan_lines(path_, signature, std::vector<std::string>(1 + plan, plans[plan]));
    }
  };
  write(0);
  std::thread first(write, 0);
  std::thread second(write, 1);
  for (int i = 0; i < 200; ++i) {
    const auto found = read();
    ASSERT_FALSE(found.empty());
    ASSERT_EQ(found.size(), found.front() == plans[0] ? 1U : 2U);
    ASSERT_THAT(found, Each(found.front()));
  }
  first.join();
  second.join();
  const fs::directory_iterator left(folder_.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 1);
}

}  // namespace
}  // namespace millrace
