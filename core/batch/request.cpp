#include "core/batch/request.hpp"

namespace millrace {

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::error:
      return "error";
  }
  return "unknown";
}

}  // namespace millrace
