#!/usr/bin/env bash
# cppcheck over our code. Usage: tests/lint/cppcheck.sh
source "$(dirname "$0")/lib.sh"

need cppcheck cppcheck
# cppcheck keeps what it knows of unchanged files there, but does not notice new settings.
cache=build/lint/cppcheck-$(sha256sum <tests/lint/cppcheck.sh | cut -c1-12)
mkdir -p "$cache"

# Not asked for:
# - missingIncludeSystem: libc and third parties are described by --library, not read
# - unusedStructMember: tables and wire structs fill members that only other files read
# - variableScope: a buffer must outlive the slices made of it
# - constParameter: functions in an ops table have the table's signature
# - ctuuninitvar: results (ret*) are handed in uninitialised, always
# - the two places are an address that accept4 may be denied, and two labels of one assembler section
cppcheck --quiet --enable=warning,performance,portability,style --std=c11 --library=posix,gnu --inline-suppr \
  --suppress=missingIncludeSystem --suppress=unusedStructMember --suppress=variableScope --suppress=constParameter \
  --suppress=ctuuninitvar --suppress=nullPointer:gateway/net/listener.c --suppress=comparePointers:gateway/web/page.c \
  --error-exitcode=1 --cppcheck-build-dir="$cache" -j2 -I . -D_GNU_SOURCE -D__cppcheck__ \
  --template='{file}:{line}: {severity}: {message} [{id}]' \
  base proto broker gateway
