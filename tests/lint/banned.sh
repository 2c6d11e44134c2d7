#!/usr/bin/env bash
# Functions that have a better replacement in this tree. Usage: tests/lint/banned.sh
source "$(dirname "$0")/lib.sh"

# "names : instead". A name followed by ( counts, comments and strings are not told apart: reword them.
rules='
strcpy strcat sprintf vsprintf gets stpcpy : struct buf, or snprintf
strncpy strncat                            : memcpy with a known length
strtok                                     : slices, or strtok_r
atoi atol atoll atof                       : strtoul and its end pointer
gmtime localtime asctime ctime             : gmtime_r, localtime_r
rand srand random srandom drand48          : base/random.h
alloca                                     : an arena
'

# search FILE…: prints file:line:text and what to use; fails when something was found.
search() {
  local names instead hits found=0
  while IFS=':' read -r names instead; do
    read -ra names <<<"$names"
    ((${#names[@]})) || continue
    if hits=$(grep -nHE "(^|[^A-Za-z0-9_])($(IFS='|'; echo "${names[*]}"))[[:space:]]*\(" "$@"); then
      echo "$hits"
      echo "  -> instead of ${names[*]}:$instead"
      found=1
    fi
  done <<<"$rules"
  return $found
}

# The check itself must be able to fail.
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
for bad in 'strcpy(a, b);' 'n = atoi (s);' '(void)sprintf(a, "%d", 1);' 'tm = gmtime(&t);'; do
  echo "$bad" >"$tmp"
  if search "$tmp" >/dev/null; then
    echo "banned.sh: self-check: \"$bad\" was not found" >&2
    exit 1
  fi
done
echo 'gmtime_r(&t, &tm); snprintf(a, n, "x"); x_random(1); json_strcpy_like(2);' >"$tmp"
search "$tmp" || { echo "banned.sh: self-check: a good line was found wrong" >&2; exit 1; }

mapfile -t files < <(c_files)
search "${files[@]}"
