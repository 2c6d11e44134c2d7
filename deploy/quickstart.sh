#!/usr/bin/env bash
# deploy/quickstart.sh [start|stop|restart|status]: a whole cluster on this machine, to try and to develop.
#
# Redis on 6380, two gateways on 9443 and 9444, HAProxy in front of them on 8443, all on 127.0.0.1; pids, logs, certificate and data in .run/.
# start (the default) builds what is missing or changed and starts what is not running; what is healthy and unchanged is left alone.
#
# Environment: QUICKSTART_BIND (127.0.0.1; 0.0.0.0 to let phones in), QUICKSTART_PORT, QUICKSTART_REDIS_PORT, QUICKSTART_GW1_PORT, QUICKSTART_GW2_PORT,
# QUICKSTART_DIR (.run), QUICKSTART_BINARY (use this gateway, build nothing). XINDAO_* variables reach the gateways.
set -Eeuo pipefail
trap 'echo "quickstart: line $LINENO failed, status $?" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
bind=${QUICKSTART_BIND:-127.0.0.1}
run=${QUICKSTART_DIR:-$root/.run}
binary=${QUICKSTART_BINARY:-$root/build/release/xindao-gateway}
declare -A port=(
    [haproxy]=${QUICKSTART_PORT:-8443} [redis]=${QUICKSTART_REDIS_PORT:-6380}
    [gw1]=${QUICKSTART_GW1_PORT:-9443} [gw2]=${QUICKSTART_GW2_PORT:-9444})
parts=(redis gw1 gw2 haproxy) # in the order of starting
readonly start_timeout=20 drain_timeout=40 log_limit=$((10 * 1024 * 1024))

say() { echo "$*"; }
fail()
{
    echo "quickstart: $*" >&2
    exit 1
}

# --- processes: a pid file counts only while that pid is the process we started ---

process_start() # PID; what tells this process from a later one with the same number
{
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086 # split into fields on purpose; state is the first, start time the 20th after the name
    set -- $stat
    [[ $1 != Z ]] && echo "${20} $(cat /proc/sys/kernel/random/boot_id)"
}

part_pid() # PART; prints the pid while it runs
{
    local pid now
    pid=$(cat "$run/$1.pid" 2>/dev/null) && [[ -n $pid ]] && now=$(process_start "$pid") || return 1
    [[ $now == "$(cat "$run/$1.start" 2>/dev/null)" ]] && echo "$pid"
}

part_signal() # SIGNAL PART
{
    local pid
    pid=$(part_pid "$2") || return 1
    kill -s "$1" "$pid" 2>/dev/null
}

wait_gone() # SECONDS PART...
{
    local deadline=$((SECONDS + $1)) part
    shift
    for part in "$@"; do
        while part_pid "$part" >/dev/null; do
            ((SECONDS < deadline)) || return 1
            sleep 0.1
        done
    done
}

port_owner() # PORT; prints who listens there, fails when nobody does
{
    local line
    line=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n 1)
    [[ -n $line ]] || return 1
    sed -n 's/.*users:((\"\([^\"]*\)\",pid=\([0-9]*\).*/\1, pid \2/p;t;s/.*/a process of another user/p' <<<"$line"
}

log_start=0 # size of the log of the part started last, before it was started
spawn() # PART COMMAND...; detached, log in .run/PART.log
{
    local part=$1 log=$run/$1.log owner pid
    shift
    if owner=$(port_owner "${port[$part]}"); then
        fail "$part needs port ${port[$part]}, which is taken ($owner). Stop that, or choose another with $(port_variable "$part")=PORT"
    fi
    if [[ -e $log && $(stat -c %s "$log") -gt $log_limit ]]; then
        mv -f "$log" "$log.1"
    fi
    log_start=$(stat -c %s "$log" 2>/dev/null || echo 0)
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    pid=$!
    process_start "$pid" >"$run/$part.start" || true
    echo "$pid" >"$run/$part.pid"
}

port_variable() # PART
{
    case $1 in
    haproxy) echo QUICKSTART_PORT ;;
    *) echo "QUICKSTART_${1^^}_PORT" ;;
    esac
}

# --- the parts ---

part_command() # PART; sets the array "command"
{
    case $1 in
    redis)
        command=(redis-server "$root/deploy/redis.conf" --port "${port[redis]}" --bind 127.0.0.1 --dir "$run/redis")
        ;;
    gw1 | gw2)
        command=("$binary" --listen "127.0.0.1:${port[$1]}" --node "$1" --broker "redis://127.0.0.1:${port[redis]}"
            --tls-cert "$run/certs/cert.pem" --tls-key "$run/certs/key.pem" --proxy-protocol optional --demo on)
        ;;
    haproxy)
        command=(env "LB_BIND=$bind:${port[haproxy]}" "LB_SERVER_1=127.0.0.1:${port[gw1]}" "LB_SERVER_2=127.0.0.1:${port[gw2]}"
            haproxy -W -db -f "$root/deploy/haproxy.cfg")
        ;;
    esac
}

part_stamp() # PART; changes when the part must be restarted to be up to date
{
    local files=()
    case $1 in
    redis) files=("$root/deploy/redis.conf") ;;
    gw*) files=("$binary") ;;
    haproxy) files=("$root/deploy/haproxy.cfg") ;;
    esac
    {
        printf '%s\n' "${command[@]}"
        env | sed -n '/^XINDAO_/p' | sort
        cat "${files[@]}"
    } | sha256sum
}

part_ready() # PART
{
    case $1 in
    redis) [[ $(redis-cli -p "${port[redis]}" ping 2>/dev/null) == PONG ]] ;;
    *) curl -sf --max-time 2 -o /dev/null --cacert "$run/certs/ca.pem" "https://127.0.0.1:${port[$1]}/readyz" ;;
    esac
}

show_log() # PART; what it said since this start, at most the end of it
{
    echo "--- $run/$1.log:" >&2
    tail -c "+$((log_start + 1))" "$run/$1.log" | tail -n 15 >&2 || true
}

wait_ready() # PART
{
    local deadline=$((SECONDS + start_timeout))
    until part_ready "$1"; do
        if ! part_pid "$1" >/dev/null; then
            show_log "$1"
            fail "$1 ended as soon as it was started"
        fi
        if ((SECONDS >= deadline)); then
            show_log "$1"
            fail "$1 is not ready after $start_timeout s"
        fi
        sleep 0.1
    done
}

start_part() # PART
{
    local command stamp
    part_command "$1"
    stamp=$(part_stamp "$1")
    if part_pid "$1" >/dev/null && [[ $stamp == "$(cat "$run/$1.stamp" 2>/dev/null)" ]] && part_ready "$1"; then
        say "$1: already running"
        return
    fi
    if part_pid "$1" >/dev/null; then
        say "$1: changed or not ready, restarting"
        stop_parts "$1"
    fi
    spawn "$1" "${command[@]}"
    wait_ready "$1"
    echo "$stamp" >"$run/$1.stamp"
    say "$1: ready, pid $(part_pid "$1"), port ${port[$1]}"
}

stop_parts() # PART...; all of them at once
{
    local part left=()
    for part in "$@"; do
        if part_signal TERM "$part"; then
            left+=("$part")
        fi
    done
    if ((${#left[@]})) && ! wait_gone "$drain_timeout" "${left[@]}"; then
        for part in "${left[@]}"; do
            if part_signal KILL "$part"; then
                say "$part: did not stop within $drain_timeout s, killed"
            fi
        done
        wait_gone 5 "${left[@]}" || true
    fi
    for part in "$@"; do
        rm -f "$run/$part.pid" "$run/$part.start" "$run/$part.stamp"
    done
    ((!${#left[@]})) || say "stopped: ${left[*]}"
}

# --- commands ---

prepare()
{
    local steps=(run)
    [[ -n ${QUICKSTART_BINARY:-} ]] || steps+=(build)
    "$root/deploy/install-deps.sh" "${steps[@]}"
    if [[ -z ${QUICKSTART_BINARY:-} ]]; then
        build
    elif [[ ! -x $binary ]]; then
        fail "no program $binary"
    fi
    local before after
    before=$(sha256sum "$run/certs/cert.pem" 2>/dev/null || true)
    "$root/deploy/make-cert.sh" "$run/certs"
    after=$(sha256sum "$run/certs/cert.pem")
    if [[ -n $before && $before != "$after" ]]; then
        part_signal HUP gw1 || true
        part_signal HUP gw2 || true
    fi
}

build()
{
    local log=$run/build.log
    say "building (log: $log)"
    if ! (cd "$root" && cmake --preset release && cmake --build --preset release) >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "the build failed"
    fi
}

start()
{
    local part
    prepare
    mkdir -p "$run/redis"
    for part in "${parts[@]}"; do
        start_part "$part"
    done
    print_what_to_try
}

stop()
{
    stop_parts gw1 gw2
    stop_parts haproxy
    stop_parts redis
}

status()
{
    local part pid state all=0
    for part in "${parts[@]}"; do
        if ! pid=$(part_pid "$part"); then
            state="stopped" all=1
        elif part_ready "$part"; then
            state="ready, pid $pid"
        else
            state="running but not ready, pid $pid, log $run/$part.log" all=1
        fi
        printf '%-8s port %-6s %s\n' "$part" "${port[$part]}" "$state"
    done
    exit $all
}

print_what_to_try()
{
    local url=https://localhost:${port[haproxy]}
    cat <<END

Open $url/ in two browser windows and talk to yourself: the load balancer puts them on
different gateways. (The certificate is your own, from $run/certs/ca.pem: accept it or import that file.)

Look inside while they are connected:
  redis-cli -p ${port[redis]} --scan --pattern 'xd:session:*'        the sessions; then HGETALL one of them
  redis-cli -p ${port[redis]} HGETALL 'xd:{lobby}:members'           who is in the room "lobby"
  redis-cli -p ${port[redis]} ZRANGE xd:nodes 0 -1 WITHSCORES        the nodes and their last heartbeat
  curl --cacert $run/certs/ca.pem $url/api/v1/rooms

Kill one gateway and watch: kill -9 \$(cat $run/gw1.pid). Start it again: deploy/quickstart.sh. End: deploy/quickstart.sh stop
END
}

main()
{
    (umask 077 && mkdir -p "$run")
    run=$(cd "$run" && pwd)
    local what=${1:-start}
    if [[ $what != status ]]; then
        exec 9>"$run/lock"
        flock -w 300 9 || fail "another quickstart.sh is at work (lock $run/lock)"
    fi
    case $what in
    start | stop | status) "$what" ;;
    restart)
        stop
        start
        ;;
    *)
        echo "usage: quickstart.sh [start|stop|restart|status]" >&2
        exit 2
        ;;
    esac
}

main "$@"
