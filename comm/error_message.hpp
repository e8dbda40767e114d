// What an exception says to whoever runs the job.
#pragma once

#include <exception>
#include <string>

namespace millrace {

// Its what(), and for those of the standard library that name no cause, the cause.
std::string error_message(const std::exception& error);

}  // namespace millrace
