#!/usr/bin/env bash
# Installs the Debian packages that the build needs (Debian 12, Ubuntu 24.04 and newer), as root or
# through sudo. Asks the package database first: when nothing is missing it says nothing and takes
# milliseconds, and no network is used.
#   tools/setup.sh [--developer] [--dry-run]
#     --developer   also what `make format` and `make check` use
#     --dry-run     only say what is missing; exit 1 if anything is
set -euo pipefail

build_packages=(
  build-essential ccache cmake ninja-build pkg-config
  python3 python3-pip            # checks of the tree; model downloads
  libbenchmark-dev libgtest-dev  # benchmarks and tests
  libcli11-dev libedit-dev       # the shell
  libdnnl-dev libhwy-dev         # matrix products, vector code
  libfaiss-dev libopenblas-dev   # graph index
  libfmt-dev libspdlog-dev       # log
  libcmark-dev libgumbo-dev      # text of Markdown and HTML
  libicu-dev                     # where words begin and end
  libstemmer-dev                 # words without endings
  libroaring-dev                 # bitmaps of filters
  librocksdb-dev                 # catalog
  libssl-dev libxxhash-dev       # identities and checksums
  libutf8proc-dev                # Unicode
  liburing-dev                   # reads beside the computation
  nlohmann-json3-dev
)
developer_packages=(clang-format clang-tidy)

say() { echo "setup: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

# Prints those of the named packages that are not installed.
missing_packages() {
  local installed package
  # dpkg-query fails when it does not know one of the names; the list is right all the same.
  installed=$(dpkg-query --show --showformat='${db:Status-Status} ${binary:Package}\n' "$@" \
    2>/dev/null || true)
  installed=$(sed -n 's/^installed \([^:]*\).*/\1/p' <<<"$installed")
  for package in "$@"; do
    grep -qxF -- "$package" <<<"$installed" || echo "$package"
  done
}

# Runs a command as root.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo --non-interactive "$@"
  fi
}

install_packages() {
  local -r apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q)
  local -r by_hand="install by hand: apt-get install $*"
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "not root and no sudo; as root, $by_hand"
    as_root true || fail "sudo refused; as root, $by_hand"
  fi
  say "installing: $*"
  # A stale package list is no reason to stop: what it names may still be there.
  as_root "${apt[@]}" update >&2 || say "cannot refresh the package lists; trying with the old ones"
  as_root "${apt[@]}" install --yes --no-install-recommends "$@" >&2 ||
    fail "apt-get failed; its message is above: no network, or a package unknown to this release;" \
      "$by_hand"
}

main() {
  local -a wanted=("${build_packages[@]}") missing
  local argument dry_run=
  for argument in "$@"; do
    case $argument in
      --developer) wanted+=("${developer_packages[@]}") ;;
      --dry-run) dry_run=yes ;;
      *) fail "unknown argument: $argument; usage: tools/setup.sh [--developer] [--dry-run]" ;;
    esac
  done
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail "this is no Debian or Ubuntu; install what corresponds to: ${wanted[*]}"
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [[ ${#missing[@]} -gt 0 ]] || return 0
  [[ -z $dry_run ]] || fail "missing: ${missing[*]}"
  install_packages "${missing[@]}"
  mapfile -t missing < <(missing_packages "${missing[@]}")
  [[ ${#missing[@]} -eq 0 ]] || fail "still missing after the installation: ${missing[*]}"
  say "all packages are installed"
}

main "$@"
