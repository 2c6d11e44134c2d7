#!/usr/bin/env bash
# clang-tidy by .clang-tidy over our code, two files at a time. A file that passed is not looked at again until it, one of our headers it
# includes, or the settings change (build/lint/tidy-passed). Usage: tests/lint/tidy.sh [file.c…]
source "$(dirname "$0")/lib.sh"

need clang-tidy clang-tidy-14
need clang clang-14
need_major clang-tidy 14

# A build directory of its own: clang-tidy does not know gcc's warning options.
build=build/lint/tidy
passed=build/lint/tidy-passed

configure() {
  mkdir -p "$passed"
  cmake -S . -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug \
    -DXINDAO_TESTS=ON -DXINDAO_FUZZ=ON -DXINDAO_BENCH=ON >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    return 1
  }
  # Headers that are generated must exist.
  cmake --build "$build" --target xd_proto_generated >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    return 1
  }
}

# What the verdict on a file depends on.
fingerprint() {
  local headers
  headers=$(clang -MM -MG -I. "-I$build/proto" -D_GNU_SOURCE "$1" | tr -d '\\' | tr ' ' '\n' | grep -E '^[a-z].*\.[ch]$' | sort -u)
  {
    cat .clang-tidy cmake/warnings.cmake tests/lint/tidy.sh
    while IFS= read -r file; do
      [[ ! -e $file ]] || sha256sum "$file"
    done <<<"$headers"
  } | sha256sum | cut -c1-32
}

check_one() {
  local mark output
  mark=$passed/$(fingerprint "$1")
  [[ ! -e $mark ]] || return 0
  if output=$(clang-tidy -p "$build" --quiet "$1" 2>&1); then
    touch "$mark"
  else
    grep -vE '^[0-9]+ warnings?( treated as errors?)? ?(and [0-9]+ errors? )?(generated)?|^Suppressed|^Use -header-filter' <<<"$output" || true
    return 1
  fi
}

if [[ ${TIDY_WORKER:-} ]]; then
  check_one "$1"
  exit
fi

configure
if (($#)); then
  files=("$@")
else
  # What a build compiles, without the tests.
  mapfile -t files < <(grep -oE '"file": "[^"]+"' "$build/compile_commands.json" | cut -d'"' -f4 | sed "s|^$PWD/||" |
    grep -E '^(base|proto|broker|gateway)/' | LC_ALL=C sort -u)
fi
find "$passed" -type f -mtime +30 -delete
printf '%s\n' "${files[@]}" | TIDY_WORKER=1 xargs -P2 -n1 tests/lint/tidy.sh
