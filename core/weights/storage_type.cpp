#include "core/weights/storage_type.hpp"

#include <stdexcept>

namespace millrace {
namespace {

struct Layout {
  std::string_view name;
  std::int64_t elements;
  std::int64_t bytes;
};

Layout layout(StorageType type) {
  switch (type) {
    case StorageType::f32:
      return {"F32", 1, 4};
    case StorageType::f16:
      return {"F16", 1, 2};
    case StorageType::bf16:
      return {"BF16", 1, 2};
    case StorageType::f8_e4m3:
      return {"F8_E4M3", 1, 1};
    case StorageType::q4_0:
      return {"Q4_0", 32, 2 + 16};
    case StorageType::q4_1:
      return {"Q4_1", 32, 4 + 16};
    case StorageType::q5_0:
      return {"Q5_0", 32, 2 + 4 + 16};
    case StorageType::q5_1:
      return {"Q5_1", 32, 4 + 4 + 16};
    case StorageType::q8_0:
      return {"Q8_0", 32, 2 + 32};
    case StorageType::q4_k:
      return {"Q4_K", 256, 4 + 12 + 128};
    case StorageType::q5_k:
      return {"Q5_K", 256, 4 + 12 + 32 + 128};
    case StorageType::q6_k:
      return {"Q6_K", 256, 128 + 64 + 16 + 2};
  }
  throw std::logic_error("unknown storage type");
}

}  // namespace

std::int64_t block_elements(StorageType type) { return layout(type).elements; }

std::int64_t block_bytes(StorageType type) { return layout(type).bytes; }

std::string_view name(StorageType type) { return layout(type).name; }

bool is_stored_as(StorageType type, DType dtype) {
  return (type == StorageType::f32 && dtype == DType::f32) ||
         (type == StorageType::f16 && dtype == DType::f16) ||
         (type == StorageType::bf16 && dtype == DType::bf16) ||
         (type == StorageType::f8_e4m3 && dtype == DType::fp8_e4m3);
}

}  // namespace millrace
