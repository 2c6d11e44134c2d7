#!/usr/bin/env bash
# Files of more than 600 lines. (Functions of more than 80 lines are found by tidy.sh.) Usage: tests/lint/size.sh
source "$(dirname "$0")/lib.sh"

max=600
status=0
while IFS= read -r file; do
  lines=$(wc -l <"$file")
  if ((lines > max)); then
    echo "$file:1: $lines lines, at most $max: split it"
    status=1
  fi
done < <(c_files; find tests deploy gateway -name node_modules -prune -o \( -name '*.sh' -o -name '*.mjs' -o -name '*.js' -o -name '*.lua' -o -name '*.py' \) -print | LC_ALL=C sort)
exit $status
