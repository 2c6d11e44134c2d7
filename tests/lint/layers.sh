#!/usr/bin/env bash
# Include rules: which part of the code may include which (docs/architecture.md). Prints file:line and the broken rule.
# Usage: tests/lint/layers.sh
set -euo pipefail
set -f # patterns are data here
cd "$(dirname "$0")/../.."

# "files | may include". The first line whose pattern matches a file counts; patterns are globs in which * matches / too.
own_rules='
base/*              | base/*
proto/*             | base/* proto/*
broker/*            | base/* proto/* broker/*
gateway/protocol/*  | base/* proto/* gateway/protocol/*
gateway/auth/*      | base/* proto/* gateway/auth/*
gateway/doctor/*    | base/* proto/* gateway/doctor/*
gateway/webhook/*   | base/* proto/* gateway/webhook/*
gateway/wechat/*    | base/* proto/* gateway/webhook/* gateway/wechat/*
gateway/net/*       | base/* proto/* broker/broker.h gateway/*
gateway/main.c      | *
gateway/node.[ch]   | *
gateway/*           | base/* proto/* broker/broker.h gateway/*.h
'
# What the lines above allow too much: "files | must not include".
own_exceptions='
gateway/main.c      | -
gateway/node.[ch]   | -
gateway/net/*       | gateway/doctor/*
gateway/auth/*      | -
gateway/doctor/*    | -
gateway/webhook/*   | -
gateway/wechat/*    | -
gateway/*           | gateway/net/* gateway/doctor/* gateway/auth/private.h
broker/redis/*      | -
broker/*            | broker/redis/*
'
# "header | files": third-party headers have one room each. What is in no line must be libc.
foreign_rules='
ev.h                | gateway/net/*
openssl/*           | base/tls_client.c gateway/net/* gateway/auth/* gateway/doctor/* gateway/webhook/keys.c gateway/webhook/signature.c gateway/wechat/userdata.c
http_parser.h       | gateway/net/*
zlib.h              | gateway/net/response.c
hiredis/*           | broker/redis/*
*.pb-c.h            | proto/envelope.c
jansson.h           | base/json_file.c gateway/config*.c gateway/api*.c gateway/gift.c gateway/tenants.c gateway/auth/jwks.c gateway/wechat/apps.c
pthread.h           | base/resolve.c
uthash.h            | base/table.h
'
libc='
arpa/inet.h assert.h ctype.h dirent.h endian.h errno.h fcntl.h getopt.h inttypes.h limits.h math.h netdb.h netinet/* poll.h pwd.h sched.h
signal.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h sys/* sysexits.h syslog.h termios.h time.h unistd.h
'

# matches TEXT PATTERN…: patterns are globs.
matches() {
  local text=$1 pattern
  shift
  for pattern in "$@"; do
    # shellcheck disable=SC2053
    if [[ $text == $pattern ]]; then
      return 0
    fi
  done
  return 1
}

# lookup TABLE FILE: found becomes the right side of the first line whose left side matches. There are thousands of includes: nothing here starts a process for each.
lookup() {
  local left right
  found=
  while IFS='|' read -r left right; do
    left=${left// /}
    if [[ -n $left ]] && matches "$2" "$left"; then
      found=$right
      return 0
    fi
  done <<<"$1"
}

# For each the broken rule becomes the problem, or nothing. may, may_not: what the table says of the file.
judge_own() {
  local header=$1
  problem=
  # shellcheck disable=SC2086
  if [[ ! -e $header ]]; then
    problem="\"$header\" does not exist; paths begin at the root of the tree"
  elif ! matches "$header" $may || matches "$header" $may_not; then
    problem="\"$header\": this file may include only: ${may# }"
  fi
}

declare -A rooms_of
judge_foreign() {
  local file=$1 header=$2
  problem=
  if [[ ! ${rooms_of[$header]+known} ]]; then
    lookup "$foreign_rules" "$header"
    rooms_of[$header]=$found
  fi
  # shellcheck disable=SC2086
  if [[ -n ${rooms_of[$header]} ]]; then
    matches "$file" ${rooms_of[$header]} || problem="<$header> belongs in:${rooms_of[$header]}"
  else
    matches "$header" $libc || problem="<$header> is not known to be libc, and has no room in tests/lint/layers.sh"
  fi
}

# check FILE NAME: judges the includes of FILE as if it were called NAME.
check() {
  local line text header problem found may may_not status=0
  lookup "$own_rules" "$2"
  may=$found
  lookup "$own_exceptions" "$2"
  may_not=$found
  while IFS=: read -r line text; do
    header=${text#*[<\"]}
    header=${header%[>\"]*}
    if [[ $text == *'"'* ]]; then
      judge_own "$header"
    else
      judge_foreign "$2" "$header"
    fi
    if [[ -n $problem ]]; then
      echo "$2:$line: $problem"
      status=1
    fi
  done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]' "$1" || true)
  return $status
}

# The check itself must be able to fail: each of these lines breaks a rule, and the good ones do not.
self_check() {
  local tmp name include
  tmp=$(mktemp)
  trap 'rm -f "$tmp"' RETURN
  while IFS='|' read -r name include; do
    echo "#include $include" >"$tmp"
    if check "$tmp" "$name" >/dev/null; then
      echo "layers.sh: self-check: $include was not found wrong in $name" >&2
      return 1
    fi
  done <<'BAD'
base/x.c|"proto/json.h"
base/x.c|<jansson.h>
base/x.c|<nobody/knows.h>
base/x.c|<uthash.h>
base/x.c|<openssl/ssl.h>
proto/x.c|"broker/broker.h"
proto/json.c|<jansson.h>
broker/memory.c|"broker/redis/link.h"
broker/memory.c|<hiredis/hiredis.h>
broker/redis/x.c|"gateway/gateway.h"
broker/redis/x.c|<openssl/ssl.h>
gateway/protocol/x.c|"broker/broker.h"
gateway/protocol/x.c|"gateway/gateway.h"
gateway/room.c|"broker/internal.h"
gateway/room.c|"gateway/net/net.h"
gateway/room.c|"gateway/auth/private.h"
gateway/auth/x.c|"gateway/gateway.h"
gateway/auth/x.c|"gateway/protocol/protocol.h"
gateway/auth/claims.c|<jansson.h>
gateway/room.c|<openssl/ssl.h>
gateway/room.c|<jansson.h>
gateway/net/x.c|<hiredis/hiredis.h>
gateway/net/x.c|"gateway/doctor/doctor.h"
gateway/room.c|"gateway/doctor/doctor.h"
gateway/doctor/x.c|"gateway/config.h"
gateway/webhook/x.c|"gateway/gateway.h"
gateway/doctor/x.c|"gateway/net/net.h"
gateway/doctor/x.c|<ev.h>
gateway/net/x.c|"broker/memory.h"
gateway/net/x.c|"no/such/file.h"
BAD
  while IFS='|' read -r name include; do
    echo "  #  include $include" >"$tmp"
    if ! check "$tmp" "$name"; then
      echo "layers.sh: self-check: $include was found wrong in $name" >&2
      return 1
    fi
  done <<'GOOD'
base/table.h|<uthash.h>
proto/envelope.c|<envelope.pb-c.h>
broker/redis/x.c|"broker/broker.h"
base/tls_client.c|<openssl/ssl.h>
gateway/room.c|"broker/broker.h"
gateway/room.c|"gateway/gateway.h"
gateway/room.c|"gateway/auth/auth.h"
gateway/auth/x.c|"gateway/auth/private.h"
gateway/auth/x.c|"proto/json.h"
gateway/net/x.c|"gateway/net/net.h"
gateway/net/x.c|<openssl/ssl.h>
gateway/doctor/x.c|<openssl/ssl.h>
gateway/doctor/x.c|"proto/json.h"
gateway/config_x.c|<jansson.h>
GOOD
}

self_check
status=0
while IFS= read -r file; do
  check "$file" "$file" || status=1
done < <(find base proto broker gateway -name '*.[ch]' | LC_ALL=C sort)
exit $status
