#!/usr/bin/env bash
# All checks of the source itself: one line each, the findings of a failed one below it. Usage: tests/lint/run.sh [check…]
set -uo pipefail
cd "$(dirname "$0")" || exit

checks=("$@")
((${#checks[@]})) || checks=(layers banned size format shell js openapi docs cppcheck tidy)

status=0
for check in "${checks[@]}"; do
  if output=$("./$check.sh" 2>&1); then
    echo "ok $check"
  else
    echo "FAILED $check"
    while IFS= read -r line; do
      printf '  %s\n' "$line"
    done <<<"$output"
    status=1
  fi
done
exit $status
