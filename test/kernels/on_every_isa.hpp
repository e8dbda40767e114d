// Tests of a fast CPU version that run once for each instruction set, and the name of each run.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <string>
#include <vector>

#include "kernels/simd/isa.hpp"

namespace millrace {

// `what` else a case is about: a dtype, a scaling.
template <typename What>
struct IsaCase {
  cpu::Isa isa;
  What what;
};

template <typename What>
std::vector<IsaCase<What>> on_every_isa(std::initializer_list<What> whats) {
  std::vector<IsaCase<What>> cases;
  for (const cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512}) {
    for (const What what : whats) cases.push_back({isa, what});
  }
  return cases;
}

// Skipped where the processor does not have the instruction set.
template <typename What>
class IsaTest : public testing::TestWithParam<IsaCase<What>> {
 protected:
  void SetUp() override {
    const cpu::Isa isa = this->GetParam().isa;
    if (isa > cpu::best_isa()) GTEST_SKIP() << "this processor does not have it";
    cpu::use_isa(isa);
  }
  void TearDown() override {
    cpu::use_isa(cpu::best_isa());
    omp_set_num_threads(1);
  }

  What what() const { return this->GetParam().what; }
};

// "avx2_bfloat16"
inline constexpr auto isa_case_name = [](const auto& tested) {
  return std::string(name(tested.param.isa)) + "_" + std::string(name(tested.param.what));
};

}  // namespace millrace
