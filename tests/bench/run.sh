#!/usr/bin/env bash
# run.sh: measures Xindao beside other servers, on the same machine in the same run, and prints a markdown table.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# ---- how Xindao is started: everything not named here is the default ------------------------------------------------
# One client address opens all connections and some clients publish faster than people do; both limits are for the
# outside world. Heartbeat, queues, logging and everything else stay as shipped.
xindao_binary="$root/build/release/xindao-gateway"
xindao_flags=(--auth open --message-rate 0 --max-connections-per-ip 0)

# ---- io-notes targets: ratios to Bun in the same run, or absolute ----------------------------------------------------
target_w1_ratio=1.4
target_w1max_ratio=1.0
target_w2_ratio=1.3
target_handshake_ms=0.30
target_socketio_ratio=1.1 # of Socket.IO members to native ones
target_kb_openssl30=21.6 # 1.3 × 16.6 KB: a bare libwebsockets server on OpenSSL 3.0 (Debian 12)
target_kb_openssl35=32.5 # 1.3 × 25 KB: the same on OpenSSL 3.5 (Debian 13)

server_core=0
client_core=1
all_workloads=(W1 W1max W2 W3 handshake rtt1 rtt100)

usage() {
    cat <<EOF
usage: tests/bench/run.sh [options]

Builds the release gateway and the load generator, installs the peers, measures, prints a table and which targets are
met. Needs two cores and about 15 minutes on a machine that does nothing else.

  --quick           one run with short windows (about 4 minutes); not for publishing
  --only LIST       workloads, of: ${all_workloads[*]} (comma-separated)
  --servers LIST    of: xindao,xindao-redis,xindao-socketio,bun,ws,socketio,lws (default: all but lws)
  --runs N          medians over N runs (default 3)
  --duration S      measuring window in seconds (default 10)
  --windows LIST    messages under way in W1max, one measurement for each (default 16,24,32,48,64,96,128)
  --check           exit status 1 when a target is missed
  --no-build        use build/release as it is
EOF
}

runs=3 duration=10 warmup=2 handshakes=5000
windows=(16 24 32 48 64 96 128)
workloads=("${all_workloads[@]}")
servers=(xindao xindao-redis xindao-socketio bun ws socketio)
check=no build=yes
arguments=("$@")

list_contains() {
    local wanted=$1 item
    shift
    for item in "$@"; do
        [[ $item == "$wanted" ]] && return 0
    done
    return 1
}

parse_arguments() {
    local item
    while (($# > 0)); do
        case $1 in
        --quick) runs=1 duration=3 warmup=1 handshakes=2000 ;;
        --check) check=yes ;;
        --no-build) build=no ;;
        --help)
            usage
            exit 0
            ;;
        --only | --servers | --runs | --duration | --windows)
            (($# > 1)) || die "$1 needs a value"
            case $1 in
            --only) IFS=, read -ra workloads <<<"$2" ;;
            --servers) IFS=, read -ra servers <<<"$2" ;;
            --runs) runs=$2 ;;
            --duration) duration=$2 ;;
            --windows) IFS=, read -ra windows <<<"$2" ;;
            esac
            shift
            ;;
        *) die "unknown option $1; see --help" ;;
        esac
        shift
    done
    for item in "$runs" "$duration" "${windows[@]}"; do
        [[ $item =~ ^[1-9][0-9]*$ ]] || die "$item is not a whole number above 0"
    done
    for item in "${workloads[@]}"; do
        list_contains "$item" "${all_workloads[@]}" || die "unknown workload $item; see --help"
    done
    for item in "${servers[@]}"; do
        list_contains "$item" xindao xindao-redis xindao-socketio bun ws socketio lws || die "unknown server $item; see --help"
    done
}

has_server() {
    list_contains "$1" "${servers[@]}"
}

prepare() {
    build_loadgen
    if has_server xindao || has_server xindao-redis || has_server xindao-socketio; then
        if [[ $build == yes ]]; then
            (cd "$root" && cmake --preset release >/dev/null && cmake --build --preset release >/dev/null) ||
                die "the gateway does not build (cmake --preset release && cmake --build --preset release); \
without it: --servers bun,ws,socketio"
        fi
        [[ -x $xindao_binary ]] || die "no $xindao_binary; build it, or leave it out: --servers bun,ws,socketio"
    fi
    if has_server xindao-redis; then
        command -v redis-server >/dev/null || die "no redis-server; leave it out: --servers xindao,bun,ws,socketio"
    fi
    if has_server bun || has_server ws || has_server socketio; then
        install_peers
    fi
    if has_server lws; then
        cmake --build "$root/build/bench" --target peer-lws >/dev/null 2>&1 ||
            die "the libwebsockets peer needs libwebsockets-dev, libwebsockets-evlib-ev and libev-dev"
    fi
}

# The host's firewall (connection tracking) costs every server some 15 %: measure in an empty network namespace where
# that is allowed. Falls through where it is not.
enter_namespace() {
    [[ -z ${BENCH_NAMESPACE:-} ]] || return 0
    local -a unshare=(unshare --net)
    ((EUID == 0)) || unshare=(unshare --net --map-root-user)
    if "${unshare[@]}" ip link set lo up 2>/dev/null; then
        BENCH_NAMESPACE=private exec "${unshare[@]}" "$0" "${arguments[@]}"
    fi
    BENCH_NAMESPACE=host
}

# Sets $pid of the server, $helper (pid or empty), $dialect; listens on port $1.
start_server() {
    local server=$1 port=$2 redis_port broker=memory
    local -a on_core=(taskset -c "$server_core") tls=("$work/cert.pem" "$work/key.pem")
    helper="" dialect=plain
    case $server in
    xindao-redis)
        redis_port=$(free_port)
        broker="redis://127.0.0.1:$redis_port"
        start "$work/redis.log" taskset -c "$client_core" redis-server --port "$redis_port" --bind 127.0.0.1 --save "" \
            --appendonly no --dir "$work"
        helper=$pid
        wait_ready "$pid" "$work/redis.log" || return 1
        ;;&
    xindao*)
        dialect=native
        [[ $server != xindao-socketio ]] || dialect=socketio-verbs
        start "$work/server.log" "${on_core[@]}" "$xindao_binary" --listen "127.0.0.1:$port" --tls-cert "${tls[0]}" \
            --tls-key "${tls[1]}" --broker "$broker" "${xindao_flags[@]}"
        ;;
    bun) start "$work/server.log" "${on_core[@]}" "$bun" "$bench_dir/peers/bun.js" "$port" "${tls[@]}" ;;
    ws) start "$work/server.log" "${on_core[@]}" node "$bench_dir/peers/ws.js" "$port" "${tls[@]}" ;;
    socketio)
        dialect=socketio
        start "$work/server.log" "${on_core[@]}" node "$bench_dir/peers/socketio.js" "$port" "${tls[@]}"
        ;;
    lws) start "$work/server.log" "${on_core[@]}" "$root/build/bench/peer-lws" "$port" "${tls[@]}" ;;
    esac
    wait_ready "$pid" "$work/server.log"
}

failures=()
disturbed=0
patience=600 # seconds
attempts=3   # of a measurement during which other programs took the cores
others_limit=15 # per cent of the core of the server or the load generator that other programs may have used

# is_disturbed FILE: did processes that are no part of the measurement use its cores?
is_disturbed() {
    awk -v limit="$others_limit" -F = '/_core_others_percent=/ && $2 > limit { found = 1 } END { exit !found }' "$1"
}

# Busy share of all cores during half a second, in per cent.
machine_busy() {
    { head -n 1 /proc/stat && sleep 0.5 && head -n 1 /proc/stat; } | awk '
        { total = 0; for (i = 2; i <= 9; i++) total += $i; idle = $5 + $6 }
        NR == 1 { total1 = total; idle1 = idle }
        END { d = total - total1; printf "%d\n", (d > 0) ? 100 - (idle - idle1) * 100 / d : 0 }'
}

# Gives other programs time to finish, up to $patience seconds over the whole run.
wait_for_quiet() {
    while ((patience > 0 && $(machine_busy) > 8)); do
        sleep 0.5
        patience=$((patience - 1))
    done
}

# measure_all WORKLOAD RUN: name=value lines into $results/SERVER.WORKLOAD.RUN; W1max, for each window, into …RUN-WINDOW. Interleaved: drift
# of the machine hits all servers alike.
measure_all() {
    local server window
    if [[ $1 != W1max ]]; then
        for server in "${servers[@]}"; do
            measure "$server" "$1" "$2" "$results/$server.$1.$2"
        done
        return
    fi
    for window in "${windows[@]}"; do
        for server in "${servers[@]}"; do
            measure "$server" "$1" "$2" "$results/$server.$1.$2-$window" --window "$window"
        done
    done
}

# measure SERVER WORKLOAD RUN FILE [LOADGEN-OPTION…]: again when it was disturbed.
measure() {
    local attempt
    for ((attempt = 1; attempt <= attempts; attempt++)); do
        wait_for_quiet
        measure_once "$@"
        if [[ ! -e $4 ]] || ! is_disturbed "$4"; then
            return 0
        fi
        echo "           disturbed: other programs used $(value "$4" server_core_others_percent) % of" \
            "the server's core, $(value "$4" loadgen_core_others_percent) % of the load generator's" >&2
    done
    disturbed=$((disturbed + 1))
}

# measure_once SERVER WORKLOAD RUN FILE [LOADGEN-OPTION…]: a fresh server.
measure_once() {
    local server=$1 workload=$2 run=$3 out=$4 port status=0
    local -a options=(--workload "${workload,,}" --warmup "$warmup" --duration "$duration" --handshakes "$handshakes"
        "${@:5}")
    port=$(free_port)
    printf '%-10s %-13s run %s/%s %s ' "$workload" "$server" "$run" "$runs" "${*:5}" >&2
    start_server "$server" "$port" || status=1
    if ((status == 0)); then
        options+=(--dialect "$dialect" --connect "127.0.0.1:$port" --pid "$pid")
        [[ -z $helper ]] || options+=(--helper-pid "$helper")
        # In the background, so that a signal ends the wait and the trap cleans up at once.
        start "$out" taskset -c "$client_core" "$loadgen" "${options[@]}"
        wait "$pid" || status=$?
    fi
    stop_all
    if ((status == 0)); then
        summary "$workload" "$out" >&2
    else
        mv -f "$out" "$out.failed" 2>/dev/null || true
        echo "FAILED" >&2
        grep -h -m 3 xindao-loadgen: "$out.failed" >&2 || true
        failures+=("$workload $server run $run")
    fi
}

value() {
    sed -n "s/^$2=//p" "$1"
}

summary() {
    local metric
    case $1 in
    W3) metric=rss_kb_per_connection ;;
    handshake) metric=cpu_us_per_handshake ;;
    rtt*) metric=latency_us_p50 ;;
    *) metric=cpu_us_per_delivery ;;
    esac
    printf '%s=%s server %s %% of a core' "$metric" "$(value "$2" "$metric")" "$(value "$2" server_cpu_percent)"
    [[ $1 == W3 ]] || printf ', load generator %s %%' "$(value "$2" loadgen_cpu_percent)"
    echo
}

# median SERVER WORKLOAD NAME [-WINDOW]: over the runs that succeeded (of W1max: over all windows or one of them); empty when there is none.
median() {
    local files=("$results/$1.$2".[0-9]*)
    [[ -z ${4:-} ]] || files=("$results/$1.$2".[0-9]"$4")
    [[ -e ${files[0]} ]] || return 0
    sed -sn "s/^$3=//p" "${files[@]}" | sort -g | awk '
        { v[NR] = $1 }
        END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# show SERVER WORKLOAD NAME SCALE FORMAT: a cell of the table.
show() {
    local v
    v=$(median "$1" "$2" "$3")
    if [[ -z $v ]]; then
        printf -- '–'
    else
        awk -v v="$v" -v scale="$4" -v format="$5" 'BEGIN { printf format, v * scale }'
    fi
}

# ratio SERVER WORKLOAD NAME [-WINDOW [OTHER]]: to Bun or another server, empty when either is missing.
ratio() {
    local a b
    a=$(median "$1" "$2" "$3" "${4:-}")
    b=$(median "${5:-bun}" "$2" "$3" "${4:-}")
    [[ -z $a || -z $b ]] || awk -v a="$a" -v b="$b" 'BEGIN { printf "%.2f", a / b }'
}

row() {
    local s=$1
    echo "| $s | $(show "$s" W1 cpu_us_per_delivery 1 %.2f) | $(show "$s" W1 latency_us_p50 0.001 %.1f) / $(show "$s" W1 latency_us_p99 0.001 %.1f)" \
        "| $(show "$s" W1max cpu_us_per_delivery 1 %.3f) ($(show "$s" W1max per_s 0.000001 %.2fM))" \
        "| $(show "$s" W2 cpu_us_per_delivery 1 %.1f) | $(show "$s" W2 latency_us_p50 0.001 %.2f) / $(show "$s" W2 latency_us_p99 0.001 %.2f)" \
        "| $(show "$s" W3 rss_kb_per_connection 1 %.1f) | $(show "$s" handshake cpu_us_per_handshake 0.001 %.3f)" \
        "| $(show "$s" rtt1 latency_us_p50 1 %.0f) / $(show "$s" rtt100 latency_us_p50 1 %.0f) |"
}

ratio_row() {
    local s=$1 cells=() r spec
    for spec in "W1 cpu_us_per_delivery" "W1 latency_us_p50" "W1max cpu_us_per_delivery" "W2 cpu_us_per_delivery" \
        "W2 latency_us_p50" "W3 rss_kb_per_connection" "handshake cpu_us_per_handshake" "rtt1 latency_us_p50"; do
        # shellcheck disable=SC2086 # two words on purpose
        r=$(ratio "$s" $spec)
        cells+=("${r:-–}")
    done
    r=$(ratio "$s" rtt100 latency_us_p50)
    printf '| *%s ÷ bun* |' "$s"
    printf ' %s |' "${cells[@]:0:7}"
    printf ' %s / %s |\n' "${cells[7]}" "${r:-–}"
}

table() {
    local s
    echo "| wss | W1 µs/delivery | W1 latency ms p50 / p99 | W1max µs/delivery (deliveries/s) | W2 µs/delivery | W2 latency ms p50 / p99 | W3 KB/connection | handshake CPU ms | RTT µs p50, 1 / 100 connections |"
    echo "|---|---|---|---|---|---|---|---|---|"
    for s in "${servers[@]}"; do
        row "$s"
    done
    if has_server bun; then
        for s in "${servers[@]}"; do
            [[ $s == bun ]] || ratio_row "$s"
        done
    fi
    if has_server xindao-redis; then
        echo
        echo "CPU of redis-server itself beside xindao-redis, µs per delivery:" \
            "W1 $(show xindao-redis W1 helper_cpu_us_per_delivery 1 %.2f)," \
            "W1max $(show xindao-redis W1max helper_cpu_us_per_delivery 1 %.3f)," \
            "W2 $(show xindao-redis W2 helper_cpu_us_per_delivery 1 %.1f);" \
            "per handshake $(show xindao-redis handshake helper_cpu_us_per_handshake 0.001 %.3f) ms."
    fi
}

# W1max by messages under way: what is overall one figure is the median of these.
window_table() {
    local s w v r
    echo "| W1max µs/delivery, messages under way: |$(printf ' %s |' "${windows[@]}")"
    echo "|---|$(printf -- '---|%.0s' "${windows[@]}")"
    for s in "${servers[@]}"; do
        printf '| %s |' "$s"
        for w in "${windows[@]}"; do
            v=$(median "$s" W1max cpu_us_per_delivery "-$w")
            printf ' %s |' "${v:+$(printf %.3f "$v")}"
        done
        echo
    done
    has_server bun || return 0
    for s in "${servers[@]}"; do
        [[ $s != bun ]] || continue
        printf '| *%s ÷ bun* |' "$s"
        for w in "${windows[@]}"; do
            r=$(ratio "$s" W1max cpu_us_per_delivery "-$w")
            printf ' %s |' "${r:-–}"
        done
        echo
    done
}

missed=0

# target NAME MEASURED LIMIT UNIT
target() {
    local verdict="not measured"
    if [[ -n $2 ]]; then
        if awk -v v="$2" -v limit="$3" 'BEGIN { exit !(v <= limit) }'; then
            verdict=met
        else
            verdict="**not met**"
            missed=1
        fi
    fi
    echo "| $1 | ≤ $3 $4 | ${2:-–} | $verdict |"
}

targets() {
    local kb=$target_kb_openssl30 memory shake
    if openssl version | grep -qE '^OpenSSL 3\.[2-9]'; then
        kb=$target_kb_openssl35
    fi
    memory=$(median xindao W3 rss_kb_per_connection)
    shake=$(median xindao handshake cpu_us_per_handshake)
    echo "| target (memory broker) | limit | measured | |"
    echo "|---|---|---|---|"
    target "W1 CPU per delivery" "$(ratio xindao W1 cpu_us_per_delivery)" $target_w1_ratio "× Bun"
    target "W1max CPU per delivery" "$(ratio xindao W1max cpu_us_per_delivery)" $target_w1max_ratio "× Bun"
    target "W2 CPU per delivery" "$(ratio xindao W2 cpu_us_per_delivery)" $target_w2_ratio "× Bun"
    target "memory per idle connection" "${memory:+$(printf %.1f "$memory")}" "$kb" KB
    target "CPU per handshake" "${shake:+$(awk -v v="$shake" 'BEGIN { printf "%.3f", v / 1000 }')}" $target_handshake_ms ms
    has_server xindao-socketio || return 0
    local sio="xindao-socketio"
    target "Socket.IO: W1 CPU per delivery" "$(ratio $sio W1 cpu_us_per_delivery "" xindao)" $target_socketio_ratio "× native"
    target "Socket.IO: W2 CPU per delivery" "$(ratio $sio W2 cpu_us_per_delivery "" xindao)" $target_socketio_ratio "× native"
    target "Socket.IO: memory per idle connection" "$(ratio $sio W3 rss_kb_per_connection "" xindao)" $target_socketio_ratio "× native"
}

environment() {
    local model os
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    os=$(. /etc/os-release && echo "$PRETTY_NAME")
    echo "$(date -u +%Y-%m-%d), $model ($(nproc) cores), $os, Linux $(uname -r), $(openssl version | cut -d' ' -f1-2)," \
        "commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown);" \
        "medians of $runs run(s), windows of $duration s, network namespace: $BENCH_NAMESPACE."
}

# In a function, so that a run under way does not care when this file is edited.
main() {
    parse_arguments "$@"
    mkdir -p "$root/build"
    exec 9>"$root/build/bench.lock"
    flock -n 9 || die "another run is under way; they would disturb each other"
    if [[ -z ${BENCH_NAMESPACE:-} ]]; then
        (($(nproc) >= 2)) || die "two cores are needed: one for the server, one for the load generator"
        prepare
        enter_namespace # does not return where a namespace can be had
    fi
    [[ $BENCH_NAMESPACE != private ]] || ip link set lo up
    [[ ! -d $cache/node_modules ]] || export NODE_PATH="$cache/node_modules"
    ulimit -n "$(ulimit -Hn)"
    work=$(mktemp -d)
    results="$root/build/bench/results"
    trap 'stop_all; rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf "$results"
    mkdir -p "$results"
    make_certificate "$work"

    for ((run = 1; run <= runs; run++)); do
        for workload in "${workloads[@]}"; do
            measure_all "$workload" "$run"
        done
    done

    environment
    echo
    table
    if list_contains W1max "${workloads[@]}"; then
        echo
        window_table
    fi
    if has_server xindao; then
        echo
        targets >"$work/targets"
        cat "$work/targets"
        ! grep -q 'not met' "$work/targets" || missed=1
    fi
    if ((disturbed > 0)); then
        echo
        echo "Disturbed by other programs even after $attempts attempts: $disturbed measurement(s); do not trust them."
    fi
    if ((${#failures[@]} > 0)); then
        echo
        printf 'FAILED: %s\n' "${failures[@]}"
        exit 1
    fi
    [[ $check == no || $missed == 0 ]]
    exit
}

main "$@"
