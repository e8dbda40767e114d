// One finished request as one line of a JSON Lines result. Both ways to such a file, straight from
// a run and converted from HDF5, write the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

struct FinishedRequest;

// Appends the line, newline included:
//
//   {"index":0,"id":"a","text":"...","token_ids":[1,2],"finish_reason":"stop","stop_reason":null,
//    "prompt_tokens":5,"error":null}
//
// With n > 1 the fields of a completion (text to stop_reason, and logprobs) stand in "outputs", an
// array of n objects. "logprobs" is there when they were asked for, "prompt_token_ids" with the
// flag. A line that failed has null for text and token_ids, the finish reason "error", and says why
// in "error".
void append_json_line(std::string& out, std::int64_t index, const FinishedRequest& request,
                      bool prompt_token_ids);

// Appends a JSON string. What is not UTF-8 in `bytes` becomes U+FFFD.
void append_json_string(std::string& out, std::string_view bytes);

}  // namespace millrace
