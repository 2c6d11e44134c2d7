#!/usr/bin/env bash
# Formatting by .clang-format. Usage: tests/lint/format.sh [--fix]
source "$(dirname "$0")/lib.sh"

need clang-format clang-format-14
need_major clang-format 14
mapfile -t files < <(c_files)
if [[ ${1:-} == --fix ]]; then
  clang-format -i "${files[@]}"
else
  clang-format --dry-run -Werror "${files[@]}"
fi
