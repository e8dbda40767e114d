#!/usr/bin/env bash
# calls.sh LIBRARY...: fails when one of our libraries calls what opens a network socket, starts a shell or a
# program, or loads code. The chat template's co-process alone is started, through posix_spawn, with a socket pair, and
# the driver's library that knows how GPUs are linked alone is loaded.
set -u
status=0
forbidden='socket|connect|bind|listen|accept4?|getaddrinfo|gethostby[a-z]+|system|popen|exec[vl]p?e?|fork|vfork|dlmopen|shm_open|tmpnam|mktemp|tempnam'
for library in "$@"; do
  found=$(nm --undefined-only "$library" 2>/dev/null | grep -E "(:\$| U ($forbidden)(@.*)?\$)" | grep -B1 ' U ')
  if [ -n "$found" ]; then
    printf '%s calls what no part of it may call:\n%s\n' "$library" "$found"
    status=1
  fi
  found=$(nm --undefined-only "$library" 2>/dev/null | grep -E '(:$| U (posix_spawnp?|socketpair|dlopen)(@.*)?$)' |
    grep -B1 ' U ' | grep ':$' | grep -vE '^(chat_renderer|gpu_links)\.')
  if [ -n "$found" ]; then
    printf '%s: only the chat renderer starts a process, and only gpu_links loads a library:\n%s\n' "$library" "$found"
    status=1
  fi
done
exit "$status"
