#!/usr/bin/env bash
# self_test.sh LINTS COMPILER: each lint passes on a small sound tree and fails on the mistake it is for.
set -u
lints="$1"
compiler="$2"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
status=0

sound() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{apps,core,comm,kernels,test,bench,.ci}
  printf '#pragma once\nint twice(int x);\n' >"$tree/kernels/a.hpp"
  printf '#pragma once\n#include "kernels/a.hpp"\n' >"$tree/core/b.hpp"
  printf '#!/usr/bin/env bash\necho hello\n' >"$tree/run.sh"
  cp "$tree/run.sh" "$tree/.ci/run"
}

# expect pass|fail NAME LINT...: runs the lint on the tree.
expect() {
  local wanted="$1" name="$2" output code
  shift 2
  output=$("$@" 2>&1)
  code=$?
  [ "$code" -ne 77 ] || return 0
  if { [ "$wanted" = pass ] && [ "$code" -ne 0 ]; } || { [ "$wanted" = fail ] && [ "$code" -eq 0 ]; }; then
    printf '%s: wanted %s, exit code %s\n%s\n' "$name" "$wanted" "$code" "$output"
    status=1
  fi
}

includes=("$lints/includes.sh" "$tree")
headers=("$lints/headers.sh" "$tree" "$compiler" -std=c++20)
format=("$lints/format.sh" "$tree")
shell=("$lints/shell.sh" "$tree")

sound
expect pass includes "${includes[@]}"
expect pass headers "${headers[@]}"
expect pass format "${format[@]}"
expect pass shell "${shell[@]}"

sound; echo '#include "core/b.hpp"' >>"$tree/kernels/a.hpp"
expect fail "upward include" "${includes[@]}"
sound; echo '#include <mpi.h>' >>"$tree/core/b.hpp"
expect fail "MPI in core" "${includes[@]}"
sound; echo 'inline void f() { cudaFree(nullptr); }' >>"$tree/core/b.hpp"
expect fail "CUDA call in core" "${includes[@]}"
sound; echo '#include "../kernels/a.hpp"' >>"$tree/core/b.hpp"
expect fail "relative include" "${includes[@]}"
sound; echo 'std::string name();' >>"$tree/kernels/a.hpp"
expect fail "header that needs another" "${headers[@]}"
sound; echo 'struct Once {};' >"$tree/kernels/a.hpp"
expect fail "header without a guard" "${headers[@]}"
sound; echo 'int   three( int  x ) ;' >>"$tree/kernels/a.hpp"
expect fail "unformatted code" "${format[@]}"
sound
# shellcheck disable=SC2016  # the unquoted $1 is the mistake
echo 'rm $1' >>"$tree/run.sh"
expect fail "unquoted variable" "${shell[@]}"

# library SOURCE: a static library of one object.
library() {
  printf '%s\n' "$1" >"$tree/called.cpp"
  "$compiler" -c "$tree/called.cpp" -o "$tree/called.cpp.o" && ar rcs "$tree/called.a" "$tree/called.cpp.o"
}
calls=("$lints/calls.sh" "$tree/called.a")
library 'int twice(int x) { return 2 * x; }'
expect pass calls "${calls[@]}"
library 'extern "C" int system(const char*); int f() { return system("ls"); }'
expect fail "a shell" "${calls[@]}"
library 'extern "C" int socket(int, int, int); int f() { return socket(1, 2, 3); }'
expect fail "a socket" "${calls[@]}"
library 'extern "C" int posix_spawnp(int*); int f() { return posix_spawnp(nullptr); }'
expect fail "a program, not by the chat renderer" "${calls[@]}"
exit "$status"
