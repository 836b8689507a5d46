#!/usr/bin/env bash
# Answers questions over a real collection of documents on this machine, from nothing: installs what
# is missing, builds the shell, fetches two models (580 MB), loads the project's manual and the
# PostgreSQL manual (about 1,170 HTML pages, where the package manager offers them), and asks three
# questions, each by full prefill, with a prefix cache, and by fusion.
#   tools/demo.sh [--program FILE]
#     --program   use this `intarsia` instead of building one
# Everything lies in build/demo and models/. Stopped with Ctrl-C, it goes on where it was when it is
# started again; a second run loads nothing anew.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly folder=build/demo
readonly database=$folder/kb
readonly pages=$folder/postgres # unpacked, and the source that citations name
readonly pages_min=500
program=
started=0 # of the step that runs

say() { echo "demo: $*"; }
fail() {
  echo "demo: $*" >&2
  exit 1
}

# Seconds since the step began, as "3.2 s".
elapsed() {
  local -r milliseconds=$((($(date +%s%N) - started) / 1000000))
  printf '%d.%d s' $((milliseconds / 1000)) $((milliseconds % 1000 / 100))
}
begin() {
  started=$(date +%s%N)
  say "$*"
}

# Runs a command whose output is of interest only if it fails.
run_quietly() {
  local -r log=$folder/$1.log
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "failed: $*; all of its output is in $log"
  fi
}

build() {
  "${SETUP:-tools/setup.sh}"
  begin "building the shell (some minutes the first time)"
  run_quietly configure cmake --preset cpu --log-level=WARNING
  local -r make=(cmake --build --preset cpu --target intarsia --parallel "${JOBS:-$(nproc)}")
  if [[ -t 1 ]]; then "${make[@]}"; else run_quietly build "${make[@]}"; fi
  program=build/cpu/bin/intarsia
  say "built in $(elapsed)"
}

fetch_models() {
  begin "models: all-MiniLM-L6-v2 to find passages, Qwen2.5-Coder-0.5B to answer"
  tools/fetch_models.sh minilm qwen
}

# Unpacks the newest PostgreSQL manual of this release, without installing it.
fetch_pages() {
  local package html count
  if [[ -d $pages ]]; then return; fi
  if ! command -v apt-cache >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "no apt here, so the PostgreSQL manual is left out"
    return
  fi
  package=$(apt-cache search --names-only '^postgresql-doc-[0-9]+$' | cut -d ' ' -f 1 |
    sort --version-sort | tail -n 1)
  if [[ -z $package ]]; then
    say "no package postgresql-doc-N in the package lists, so the PostgreSQL manual is left out"
    return
  fi
  begin "fetching the pages of $package"
  rm -rf -- "$folder/package"
  mkdir -p -- "$folder/package"
  # As root apt would drop its rights, and could then not write here.
  if ! (cd "$folder/package" && apt-get -o APT::Sandbox::User=root -qq download "$package") ||
    ! dpkg-deb -x "$folder"/package/*.deb "$folder/package/root"; then
    say "cannot fetch $package, so the PostgreSQL manual is left out; apt-get update may help"
    return
  fi
  html=$(find "$folder/package/root" -type d -name html | head -n 1)
  count=$(find "${html:-$folder/package}" -maxdepth 1 -name '*.html' | wc -l)
  if ((count < pages_min)); then
    say "$package has only $count pages, so it is left out"
    return
  fi
  mv -- "$html" "$pages"
  rm -rf -- "$folder/package"
  say "$count pages in $(elapsed)"
}

# Runs SQL whose result and notices are of no interest.
run_sql() {
  "$program" "$database" -c "$1" >/dev/null 2>"$folder/sql.log" ||
    fail "$(cat "$folder/sql.log"; echo "If that does not help, remove $folder and start again.")"
}

# load COLLECTION PATTERN...: files into a collection; those that have not changed are passed over.
load() {
  local -r collection=$1
  shift
  local sources row added updated unchanged chunks
  sources=$(printf ", '%s'" "$@")
  begin "loading ${*} into collection $collection"
  run_sql "CREATE COLLECTION IF NOT EXISTS $collection;"
  row=$("$program" "$database" --format csv -c "COPY $collection FROM ${sources:2};" | tail -n 1)
  IFS=, read -r added updated unchanged _ chunks _ <<<"$row"
  say "$((added + updated)) documents in $chunks chunks, $unchanged unchanged, in $(elapsed)"
}

create_models() {
  run_sql "CREATE MODEL IF NOT EXISTS qwen TYPE GENERATE
             FROM 'models/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf' WITH (kv_gate = 'off');
           CREATE MODEL IF NOT EXISTS minilm TYPE EMBEDDING
             FROM 'models/all-MiniLM-L6-v2';"
}

main() {
  while (($# > 0)); do
    case $1 in
      --program)
        (($# > 1)) || fail "--program needs a file"
        program=$2
        shift
        ;;
      *) fail "unknown argument: $1; usage: tools/demo.sh [--program FILE]" ;;
    esac
    shift
  done
  trap 'echo; say "stopped; start it again and it goes on from here"; exit 130' INT TERM HUP
  mkdir -p -- "$folder"
  [[ -n $program ]] || build
  [[ -x $program ]] || fail "no program: $program"
  fetch_models
  fetch_pages
  create_models
  load manual docs/manual README.md
  if [[ -d $pages ]]; then load postgres "$pages/*.html"; fi
  python3 tools/demo_report.py "$program" "$database" \
    "$([[ -d $pages ]] && echo postgres || echo manual)"
  say "ask on your own: $program $database"
}

main "$@"
