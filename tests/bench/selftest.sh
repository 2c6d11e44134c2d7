#!/usr/bin/env bash
# selftest.sh: the load generator must accept a correct server and fail, with the right reason, on each kind of wrong one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$(mktemp -d)
trap 'stop_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

build_loadgen
install_peers
make_certificate "$work"

failed=0
# expect FAULT STATUS TEXT: the exit status, and what standard output or error must contain.
expect() {
    local fault=$1 status=$2 text=$3 got=0 port
    port=$(free_port)
    start "$work/server.log" node "$bench_dir/selftest.js" "$port" "$work/cert.pem" "$work/key.pem" "$fault"
    wait_ready "$pid" "$work/server.log" || exit 1
    "$loadgen" --workload w1 --members 20 --warmup 0.2 --duration 1 --connect "127.0.0.1:$port" --pid "$pid" \
        >"$work/out" 2>&1 || got=$?
    stop_all
    if [[ $got == "$status" ]] && grep -qE "$text" "$work/out"; then
        echo "ok   $fault"
    else
        echo "FAIL $fault: exit $got (wanted $status), output (wanted '$text'):"
        cat "$work/out"
        failed=1
    fi
}

expect none 0 'reordered_members=0'
expect drop 1 '[1-9][0-9]* deliveries lost, 0 repeated'
expect repeat 1 '0 deliveries lost, [1-9][0-9]* repeated'
expect swap 1 '0 deliveries lost, 0 repeated, [1-9][0-9]* members saw another order'
expect refuse 1 'waiting for 101: refused: HTTP/1.1 401'
expect error 1 'server says .*rate_limited'
expect close 1 'close frame 1013 unavailable'
exit "$failed"
