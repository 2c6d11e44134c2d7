#!/usr/bin/env bash
# tests/integration/valgrind.sh: the gateway under valgrind, from start through clients of every kind to SIGTERM: no error, no leak, no open file.
#
# XINDAO_GATEWAY: the binary (default: build/release). It must be one without sanitizers.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
gateway=${XINDAO_GATEWAY:-build/release/xindao-gateway}
readonly start_limit=60 exit_limit=60 # seconds; valgrind is slow
work=$(mktemp -d)
redis_pid="" gateway_pid="" failed=0

cleanup()
{
    [[ -z $gateway_pid ]] || kill -KILL "$gateway_pid" 2>/dev/null || true
    [[ -z $redis_pid ]] || kill "$redis_pid" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { echo "ok - $*"; }
not_ok()
{
    echo "not ok - $*"
    failed=1
}

free_port()
{
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

wait_for() # SECONDS WHAT COMMAND...
{
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "waited for $what" >&2
            return 1
        fi
        sleep 0.2
    done
}

start_redis()
{
    redis_port=$(free_port)
    redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work" >"$work/redis.log" 2>&1 </dev/null &
    redis_pid=$!
    wait_for 10 "Redis" redis-cli -p "$redis_port" ping
}

process_ended() { ! kill -0 "$1"; }

# Valgrind's own words: what is wrong in one process' log, nothing when all is well.
diagnose() # LOG
{
    awk '
        /ERROR SUMMARY:/ { summary = 1; if ($4 != 0) print "errors: " $4 }
        /(definitely|indirectly|possibly) lost:/ && $4 != 0 { print $2, $3, $4, "bytes" }
        /still reachable:/ && $4 != 0 { print "still reachable:", $4, "bytes" }
        /FILE DESCRIPTORS:/ { files = 1 }
        /Open (AF_[A-Z0-9]+ socket|file descriptor)/ {
            if (file != "") print "left open: " file
            file = $0
            sub(/^[^ ]* Open /, "", file)
        }
        /<inherited from parent>/ { file = "" }
        END {
            if (file != "") print "left open: " file
            if (!summary || !files) print "the process did not end in order"
        }' "$1"
}

check_logs() # NAME PROCESSES
{
    local log problems logs=("$work/$1".[0-9]*)
    if [[ ${#logs[@]} == "$2" ]]; then ok "$1: $2 processes"; else not_ok "$1: ${#logs[@]} processes, not $2"; fi
    for log in "${logs[@]}"; do
        problems=$(diagnose "$log" | paste -sd ";")
        if [[ -z $problems ]]; then
            ok "$1: process ${log##*.} leaves nothing behind"
        else
            not_ok "$1: process ${log##*.}: $problems"
            head -n 60 "$log"
        fi
    done
}

# Starts a gateway, lets clients use it, ends it in their midst.
run() # NAME PROCESSES SCHEME FLAG...
{
    local name=$1 processes=$2 scheme=$3 status=0 port
    shift 3
    port=$(free_port)
    valgrind --leak-check=full --show-leak-kinds=all --track-fds=yes --num-callers=40 --error-exitcode=99 \
        --suppressions=tests/integration/valgrind.supp --log-file="$work/$name.%p" \
        "$gateway" --listen "127.0.0.1:$port" --node "$name" --drain-time 10 "$@" >"$work/$name.log" 2>&1 </dev/null &
    gateway_pid=$!
    if ! timeout "$start_limit" env URL="$scheme://127.0.0.1:$port" CA="$work/tls/ca.pem" PID="$gateway_pid" \
        node tests/integration/valgrind-client.mjs; then
        not_ok "$name: the clients"
        tail -n 40 "$work/$name.log"
        kill -TERM "$gateway_pid" 2>/dev/null || true
    fi
    wait_for "$exit_limit" "$name to exit" process_ended "$gateway_pid" || kill -KILL "$gateway_pid"
    wait "$gateway_pid" || status=$?
    gateway_pid=""
    if [[ $status == 0 ]]; then
        ok "$name: exit status 0"
    else
        not_ok "$name: exit status $status (99: valgrind found errors)"
        tail -n 40 "$work/$name.log"
    fi
    check_logs "$name" "$processes"
}

command -v valgrind >/dev/null || { echo "valgrind.sh: no valgrind: deploy/install-deps.sh test" >&2 && exit 1; }
[[ -x $gateway ]] || { echo "valgrind.sh: no $gateway: cmake --preset release && cmake --build --preset release" >&2 && exit 1; }
[[ -d tests/integration/node_modules/ws ]] || (cd tests/integration && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
deploy/make-cert.sh "$work/tls" >/dev/null 2>&1
start_redis

run alone 1 wss --tls-cert "$work/tls/cert.pem" --tls-key "$work/tls/key.pem"
run clustered 3 ws --insecure --broker "redis://127.0.0.1:$redis_port" --workers 2
exit "$failed"
