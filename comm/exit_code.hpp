// What a program's exit code tells whoever started it, most of all whether to start it again.
#pragma once

namespace millrace::exit_code {

inline constexpr int done = 0;
// A bug or a failing machine. The journal is intact.
inline constexpr int internal_error = 1;
// The user's mistake (a flag, a file, a value): the same command will fail again.
inline constexpr int users_mistake = 2;
// Stopped before the end by a signal, the time limit, or the loss of a rank or a host, or another
// job writes the same output: run again with --resume. EX_TEMPFAIL of sysexits.h.
inline constexpr int stopped = 75;

}  // namespace millrace::exit_code
