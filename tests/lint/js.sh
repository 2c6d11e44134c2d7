#!/usr/bin/env bash
# Our JavaScript: it parses, and nothing that a file imports or declares at its top is unused. Usage: tests/lint/js.sh
source "$(dirname "$0")/lib.sh"

need node nodejs
mapfile -t files < <(find tests deploy gateway sdk -name node_modules -prune -o \( -name '*.mjs' -o -name '*.js' \) -print | LC_ALL=C sort)
node --no-warnings --experimental-vm-modules tests/lint/parse.mjs "${files[@]}"
node tests/lint/unused.mjs "${files[@]}"
