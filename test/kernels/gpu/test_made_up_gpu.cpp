// What loading does on a GPU, against the CPU: made-up numbers bit for bit, and columns cut out.
#include "gpu_test.hpp"
#include "kernels/copy_rows.hpp"
#include "kernels/made_up.hpp"

namespace millrace {
namespace {

std::vector<std::byte> bytes_of(const TensorView& view, Stream stream) {
  std::vector<std::byte> bytes(view.bytes());
  copy_bytes(bytes.data(), Device::cpu(), view.data(), view.device(), view.bytes(), stream);
  synchronize(stream);
  return bytes;
}

class LoadingOnGpu : public OnGpu {};

TEST_F(LoadingOnGpu, MadeUpNumbersHaveTheBitsOfTheCpu) {
  const Device device = stream().device;
  const MadeUpNumbers spreads[] = {{.key = 7, .center = 0, .unit = 0.0263F / 32768},
                                   {.key = ~0ULL - 5, .center = 0.93F, .unit = 0.17F / 32768},
                                   {.key = 1, .center = 0, .unit = 448.0F / 32768},
                                   {.key = 1, .center = 1, .unit = 0}};
  const MadeUpPlaces places[] = {{.first = 0, .row_step = 4096},
                                 {.first = 4'000'000'003, .row_step = 1027},
                                 {.first = 5, .row_step = 1, .column_step = 333}};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::fp8_e4m3}) {
    for (const MadeUpNumbers& numbers : spreads) {
      for (const MadeUpPlaces& place : places) {
        for (const std::int64_t columns : {1, 333, 4096}) {
          const Tensor here(dtype, Device::cpu(), {65, columns});
          const Tensor there(dtype, device, {65, columns});
          make_up(here, numbers, place, {});
          make_up(there, numbers, place, stream());
          ASSERT_EQ(bytes_of(there, stream()), bytes_of(here, {}))
              << name(dtype) << " " << columns << " from " << place.first;
        }
      }
    }
  }
}

TEST_F(LoadingOnGpu, ColumnsAreCutOutOnTheWayAndOnTheDevice) {
  const Device device = stream().device;
  const Tensor host(DType::bf16, Device::cpu(), {300, 520});
  make_up(host, {.key = 3, .center = 0, .unit = 1}, {.row_step = 520}, {});
  const Tensor expected(DType::bf16, Device::cpu(), {300, 131});
  copy_rows(expected, host->slice(1, 77, 131), {});
  const Tensor cut(DType::bf16, device, {300, 131});
  copy_rows(cut, host->slice(1, 77, 131), stream());
  EXPECT_EQ(bytes_of(cut, stream()), bytes_of(expected, {}));
  const Tensor whole(DType::bf16, device, {300, 520});
  copy_rows(whole, host, stream());
  const Tensor cut_there(DType::bf16, device, {300, 131});
  copy_rows(cut_there, whole->slice(1, 77, 131), stream());
  EXPECT_EQ(bytes_of(cut_there, stream()), bytes_of(expected, {}));
}

}  // namespace
}  // namespace millrace
