#!/usr/bin/env bash
# Formatting by .clang-format. Usage: tests/lint/format.sh [--fix]
source "$(dirname "$0")/lib.sh"

need clang-format clang-format-14
need_major clang-format 14
mapfile -t files < <(c_files)
if [[ ${1:-} == --fix ]]; then
  clang-format -i "${files[@]}"
elif ! findings=$(clang-format --dry-run -Werror "${files[@]}" 2>&1); then
  grep -F ' error: ' <<<"$findings" | cut -d: -f1,2
  echo "tests/lint/format.sh --fix formats them"
  exit 1
fi
