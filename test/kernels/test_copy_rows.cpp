#include "kernels/copy_rows.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

TEST(CopyRows, CutsColumnsOutAndPutsThemBetweenOthers) {
  const Tensor from(DType::i32, Device::cpu(), {3, 5});
  std::iota(from->as<std::int32_t>(), from->as<std::int32_t>() + 15, 0);
  const Tensor to(DType::i32, Device::cpu(), {3, 4});
  fill_bytes(to->data(), 0, to->bytes(), {});
  copy_rows(to->slice(1, 1, 2), from->slice(1, 3, 2), {});
  const std::vector<std::int32_t> found(to->as<std::int32_t>(), to->as<std::int32_t>() + 12);
  EXPECT_EQ(found, (std::vector<std::int32_t>{0, 3, 4, 0, 0, 8, 9, 0, 0, 13, 14, 0}));
}

TEST(CopyRows, RefusesOtherShapes) {
  const Tensor from(DType::i32, Device::cpu(), {3, 5});
  const Tensor to(DType::i32, Device::cpu(), {3, 4});
  EXPECT_THROW(copy_rows(to, from, {}), ShapeError);
}

}  // namespace
}  // namespace millrace
