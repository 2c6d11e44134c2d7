#!/usr/bin/env bash
# Our scripts, by shellcheck: warnings and errors. Usage: tests/lint/shell.sh
source "$(dirname "$0")/lib.sh"

need shellcheck shellcheck
mapfile -t files < <(find tests deploy -name node_modules -prune -o -name '*.sh' -print | LC_ALL=C sort)
shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR "${files[@]}"
